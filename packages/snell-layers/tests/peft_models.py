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


@dataclass
class Case:
    """A model family: how to build it, how to call it, what a SNELL adapter targets."""

    build: Any
    library: str
    options: dict[str, Any]
    adapted: int
    call: Any = field(default=lambda model, batch: model(**batch))


def images(rng):
    return {"image": torch.rand(2, 3, 16, 16, generator=rng)}


def rows(rng):
    return {"image": torch.rand(5, 12, generator=rng)}


def tokens(rng):
    return {"input_ids": torch.randint(1, 50, (2, 7), generator=rng)}


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
        call=lambda model, batch: model(batch["image"]),
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
}
INPUTS = {"plain": rows, "timm-vit": images, "bert": tokens, "gpt2-conv1d": tokens}


def output(name, model, batch):
    """Output of a model of one family in evaluation mode."""
    model.eval()
    with torch.no_grad():
        return CASES[name].call(model, batch)
