"""Default targets of transformers models, and the sizes of the published backbones, on meta."""

import pytest
import torch

pytest.importorskip("peft")

from peft import get_peft_model

from snell_layers.factors import SnellFactors
from snell_layers.peft import SnellAdapter, SnellConfig
from snell_layers.peft.families import BLOCK_LINEARS

pytestmark = [
    # PEFT 0.21 asks transformers 5.23 for a deprecated alias whenever it wraps one of its models.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
]

SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
SMALL |= {"intermediate_size": 32}
TEXT = {**SMALL, "vocab_size": 50}
IMAGE = {**SMALL, "image_size": 16, "patch_size": 8}
TOWERS = {"text_config": TEXT, "vision_config": IMAGE}
GROUPED = {**TEXT, "num_key_value_heads": 2, "head_dim": 6}
OPTIONS = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2"), GROUPED),
    **dict.fromkeys(("vit", "deit", "dinov2", "clip_vision_model"), IMAGE),
    **dict.fromkeys(("clip", "siglip"), TOWERS),
    "swin": {"image_size": 32, "embed_dim": 12, "depths": [1, 1], "num_heads": [2, 2]},
    "convnext": {"hidden_sizes": [8, 8], "depths": [1, 1], "num_stages": 2},
    "gpt2": {"vocab_size": 50, "n_embd": 24, "n_layer": 2, "n_head": 3},
    "distilbert": {"vocab_size": 50, "dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 32},
}
# In two blocks, or two blocks in each of two towers: attention's and the MLP's linears, no others.
ADAPTED = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2"), 2 * 7),
    **dict.fromkeys(("clip", "siglip"), 2 * 2 * 6),
    "convnext": 2 * 2,
    "gpt2": 2 * 4,
}


@pytest.mark.parametrize("family", BLOCK_LINEARS)
def test_known_transformers_need_no_targets(family):
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(family, **OPTIONS.get(family, TEXT))
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(config)
    tuned = get_peft_model(model, SnellConfig(r=4))
    names = [name for name, module in tuned.named_modules() if isinstance(module, SnellAdapter)]
    assert len(names) == ADAPTED.get(family, 2 * 6), names
    assert not any(part in name for name in names for part in ("pooler", "embed", "head", "visual"))


def test_the_fused_attention_of_gpt2_is_split_by_default():
    config = SnellConfig()
    assert config.pieces("h.0.attn.c_attn") == 3
    assert config.pieces("h.0.crossattention.c_attn") == 1, "holds key and value alone"


VIT = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"]
# Updates and trained numbers at r=8, as counted in the release (its Swin and ConvNeXt as built).
PUBLISHED = {
    "vit_base_patch16_224": (VIT, 72, 1_327_104),
    "vit_large_patch16_224": (VIT, 144, 3_538_944),
    "vit_huge_patch14_224": (VIT, 192, 5_898_240),
    "swin_base_patch4_window7_224": (VIT, 144, 1_732_608),
    "convnext_base": (VIT[2:], 72, 1_443_840),
}


@pytest.mark.parametrize("backbone", PUBLISHED)
def test_the_published_backbones_get_the_published_number_of_parameters(backbone):
    timm = pytest.importorskip("timm")
    targets, updates, numbers = PUBLISHED[backbone]
    with torch.device("meta"):
        model = timm.create_model(backbone, num_classes=0)
    tuned = get_peft_model(model, SnellConfig(r=8, target_modules=targets))
    factors = [module for module in tuned.modules() if isinstance(module, SnellFactors)]
    assert sum(one.pieces for one in factors) == updates
    assert sum(p.numel() for p in tuned.parameters() if p.requires_grad) == numbers


def test_clip_of_open_clip_is_adapted_in_both_towers():
    open_clip = pytest.importorskip("open_clip")
    with torch.device("meta"):
        model = open_clip.create_model("ViT-B-32", pretrained=None, device="meta")
    tuned = get_peft_model(model, SnellConfig(target_modules=["attn", "c_fc", "c_proj"]))
    factors = [module for module in tuned.modules() if isinstance(module, SnellFactors)]
    assert sum(one.pieces for one in factors) == 2 * 12 * 6
    # Per block: q, k, v, out (width + width), and both layers of the MLP (width + 4 * width).
    widths = 12 * 8 * (4 * 2 + 2 * 5)
    trained = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    assert trained == widths * (768 + 512)


def test_a_language_model_generates_with_its_adapter():
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(**GROUPED, max_position_embeddings=32, pad_token_id=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.LlamaForCausalLM(config)
    tuned = get_peft_model(model, SnellConfig(r=4, sparsity=0, task_type="CAUSAL_LM"))
    tokens = torch.tensor([[5, 6, 7]])
    written = tuned.generate(tokens, max_new_tokens=6, do_sample=False)
    assert written.shape == (1, 9)
    # The same, token by token and without the cache.
    for _ in range(6):
        tokens = torch.cat([tokens, tuned(tokens).logits[:, -1:].argmax(-1)], 1)
    assert torch.equal(written, tokens)
    with tuned.disable_adapter():
        assert not torch.equal(tuned.generate(written[:, :3], max_new_tokens=6), written)
