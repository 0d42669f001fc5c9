"""From the names in published files to those of timm, open_clip and transformers.

Only what is known to belong to the task of the pretraining is dropped; any other name that the
model has no place for stays, so that it is reported.
"""

from __future__ import annotations

from typing import Any

import torch

from vision_backbones.checkpoints.google import HEADS, from_google, without_prefix

State = dict[str, torch.Tensor]
SETTINGS = ("input_resolution", "context_length", "vocab_size", "attn_mask")
DECODER = ("decoder_", "mask_token")
ENCODERS = ("module.base_encoder.", "module.momentum_encoder.", "module.")
OTHER_PARTS = ("module.momentum_encoder.", "module.predictor.")
CLASSIFIER = ("head.weight", "head.bias", "head.fc.weight", "head.fc.bias")
UNTOUCHED = ("relative_position_bias_table", "patch_embed.proj.weight")
HEADS_OF_PRETRAINING = ("cls.", "embeddings.position_ids", "classifier.")
OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


def google(state: State) -> State:
    """Google's arrays by timm's names, without the classifier of ImageNet-21k."""
    plain = without_prefix(state)
    return from_google({name: t for name, t in plain.items() if not name.startswith(HEADS)})


def moco(state: State) -> State:
    """The query encoder of MoCo v3 (or the linear probe's), without its projection head."""
    prefix = next(p for p in ENCODERS if any(name.startswith(p) for name in state))
    skipped = tuple(part for part in OTHER_PARTS if part != prefix)
    kept = {n.removeprefix(prefix): t for n, t in state.items() if not n.startswith(skipped)}
    return {name: t for name, t in kept.items() if not name.startswith("head.")}


def mae(state: State) -> State:
    """MAE's encoder, without the decoder that its full files hold."""
    return {name: t for name, t in state.items() if not name.startswith(DECODER)}


def swin(state: State) -> State:
    """Original Swin by timm's names: merging moves one stage down, index and mask buffers go."""
    from timm.models.swin_transformer import checkpoint_filter_fn

    # timm's filter would resize these two without being asked, and fail where a block is missing.
    kept = {name: t for name, t in state.items() if name.endswith(UNTOUCHED)}
    others: Any = {name: t for name, t in state.items() if name not in kept}
    unused: Any = None
    return timm(dict(checkpoint_filter_fn(others, unused)) | kept)


def convnext(state: State) -> State:
    """Original ConvNeXt by timm's names."""
    from timm.models.convnext import checkpoint_filter_fn

    # As 3-D, because timm's filter looks matrices up in the model, and fails on a surplus name.
    deeper: Any = {n: t.unsqueeze(-1) if t.ndim == 2 else t for n, t in state.items()}
    flat = {n for n, t in state.items() if t.ndim == 2}
    unused: Any = None
    renamed: State = {}
    for name, tensor in deeper.items():
        for new, value in checkpoint_filter_fn({name: tensor}, unused).items():
            renamed[new] = value.squeeze(-1) if name in flat else value
    return timm(renamed)


def open_clip(state: State) -> State:
    """CLIP by open_clip's names, which are OpenAI's, without OpenAI's settings."""
    plain = {name.removeprefix("module."): t for name, t in state.items()}
    return {n: t for n, t in plain.items() if n.rpartition(".")[2] not in SETTINGS}


def timm(state: State) -> State:
    """Timm's own names, without the classifier of the pretraining."""
    return {name: t for name, t in state.items() if name not in CLASSIFIER}


def bert(state: State) -> State:
    """Transformers' present names, without the heads of the pretraining tasks."""
    renamed = {}
    for name, tensor in state.items():
        name = name.removeprefix("bert.")
        for old, new in OLD_NAMES.items():
            name = name.replace(old, new)
        if not name.startswith(HEADS_OF_PRETRAINING):
            renamed[name] = tensor
    return renamed
