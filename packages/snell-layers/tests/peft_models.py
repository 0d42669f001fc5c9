"""Small models of every family, and how a test adapts them. Also run by a fresh process."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn


class DictModel(nn.Module):
    """A plain module whose forward takes one batch dictionary, as the benchmark's backbones do."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(12, 16), nn.GELU(), nn.Linear(16, 14))
        self.head = nn.Linear(14, 3)

    def forward(self, batch):
        return self.head(self.body(batch["image"]))


def timm_vit():
    import timm

    return timm.models.VisionTransformer(
        img_size=16, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=5
    )


def timm_swin():
    import timm

    return timm.models.SwinTransformer(
        img_size=16,
        patch_size=2,
        window_size=4,
        embed_dim=12,
        depths=(1, 2),
        num_heads=(2, 2),
        num_classes=5,
    )


def timm_convnext(**options):
    import timm

    return timm.models.ConvNeXt(
        depths=(1, 1, 1, 1), dims=(12, 12, 16, 16), patch_size=2, num_classes=5, **options
    )


def timm_convnext_of_convolutions():
    return timm_convnext(conv_mlp=True)


def open_clip_model():
    import open_clip

    return open_clip.CLIP(
        embed_dim=10,
        vision_cfg={"layers": 2, "width": 24, "head_width": 12, "patch_size": 8, "image_size": 16},
        text_cfg={"context_length": 7, "vocab_size": 50, "width": 16, "heads": 2, "layers": 2},
    )


def call_clip(model, batch):
    return torch.cat([model.encode_image(batch["image"]), model.encode_text(batch["input_ids"])])


def bert():
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=50,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=32,
        max_position_embeddings=16,
        num_labels=3,
    )
    return BertForSequenceClassification(config)


def gpt2():
    from transformers import GPT2Config, GPT2Model

    return GPT2Model(GPT2Config(vocab_size=50, n_positions=16, n_embd=24, n_layer=2, n_head=3))


def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=50,
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


@dataclass
class Case:
    """A model family: how to build and call it, what is targeted and how many updates that is."""

    build: Any
    library: str
    options: dict[str, Any]
    adapted: int
    call: Any = field(default=lambda model, batch: model(**batch))


def images(rng):
    return {"image": torch.rand(2, 3, 16, 16, generator=rng)}


def larger_images(rng):
    return {"image": torch.rand(2, 3, 32, 32, generator=rng)}


def rows(rng):
    return {"image": torch.rand(5, 12, generator=rng)}


def tokens(rng):
    return {"input_ids": torch.randint(1, 50, (2, 7), generator=rng)}


def pairs(rng):
    return {**images(rng), **tokens(rng)}


def call_with_image(model, batch):
    return model(batch["image"])


CASES = {
    "plain": Case(
        DictModel,
        "torch",
        {"target_modules": ["body.0", "body.2"], "modules_to_save": ["head"]},
        adapted=2,
        call=lambda model, batch: model(batch),
    ),
    "timm-vit": Case(
        timm_vit,
        "timm",
        {"target_modules": ["attn.qkv", "attn.proj", "fc1", "fc2"], "modules_to_save": ["head"]},
        adapted=8,
        call=call_with_image,
    ),
    "timm-vit-patches": Case(
        timm_vit,
        "timm",
        {"target_modules": ["patch_embed.proj", "attn.qkv"], "modules_to_save": ["head"]},
        adapted=3,
        call=call_with_image,
    ),
    "timm-swin": Case(
        timm_swin,
        "timm",
        {
            "target_modules": ["attn.qkv", "attn.proj", "fc1", "fc2", "downsample.reduction"],
            "modules_to_save": ["head"],
        },
        adapted=13,
        call=call_with_image,
    ),
    "timm-convnext": Case(
        timm_convnext,
        "timm",
        {"target_modules": ["fc1", "fc2", "downsample.1"], "modules_to_save": ["head"]},
        adapted=12,
        call=call_with_image,
    ),
    "timm-convnext-1x1": Case(
        timm_convnext_of_convolutions,
        "timm",
        {"target_modules": ["stem.0", "mlp.fc1", "mlp.fc2"], "modules_to_save": ["head"]},
        adapted=9,
        call=call_with_image,
    ),
    "open-clip": Case(
        open_clip_model,
        "open_clip",
        {"target_modules": ["attn", "c_fc", "c_proj"]},
        adapted=16,
        call=call_clip,
    ),
    "bert": Case(
        bert,
        "transformers",
        {"modules_to_save": ["classifier"]},
        adapted=12,
        call=lambda model, batch: model(**batch).logits,
    ),
    "gpt2-conv1d": Case(
        gpt2,
        "transformers",
        {"target_modules": ["c_attn", "c_fc"], "fused_modules": ["c_attn"]},
        adapted=4,
        call=lambda model, batch: model(**batch).last_hidden_state,
    ),
    "llama": Case(
        llama,
        "transformers",
        {"task_type": "CAUSAL_LM"},
        adapted=14,
        call=lambda model, batch: model(**batch).logits,
    ),
}
INPUTS = {
    "plain": rows,
    "open-clip": pairs,
    **{name: images for name in CASES if name.startswith("timm")},
    **{name: larger_images for name in CASES if name.startswith("timm-convnext")},
    **dict.fromkeys(("bert", "gpt2-conv1d", "llama"), tokens),
}


def output(name, model, batch):
    """Output of a model of one family in evaluation mode."""
    model.eval()
    with torch.no_grad():
        return CASES[name].call(model, batch)
