"""Default targets of transformers models: attention and MLP of every block, nothing else."""

__all__ = ["BLOCK_LINEARS"]

# Never the pooler, the embeddings, the router or the head. Both spellings of transformers 4 and 5
# where they differ. A test builds every family and counts.
_BERT = r".*encoder\.layer\.\d+\..*\.(query|key|value|dense)"
_LLAMA = r".*layers\.\d+\..*\.([qkvo]_proj|gate_proj|up_proj|down_proj)"
_VIT = r".*layers?\.\d+\..*\.(query|key|value|dense|[qkvo]_proj|fc1|fc2)"
_CLIP = r".*layers\.\d+\..*\.([qkv]_proj|out_proj|fc1|fc2)"

BLOCK_LINEARS: dict[str, str] = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "electra"), _BERT),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2"), _LLAMA),
    **dict.fromkeys(("vit", "deit", "dinov2", "swin"), _VIT),
    **dict.fromkeys(("clip", "clip_vision_model", "clip_text_model", "siglip"), _CLIP),
    "distilbert": r".*layer\.\d+\..*\.([qkv]_lin|out_lin|lin1|lin2)",
    "gpt2": r".*h\.\d+\..*\.(c_attn|c_proj|c_fc)",
    "convnext": r".*layers\.\d+\.pwconv[12]",
}
