"""Swin and ConvNeXt as their authors publish them, and any model of timm as timm does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
from safetensors.torch import save_file

from vision_backbones.catalog import BackboneSpec
from vision_backbones.made.model import CLASSES, classifier, random_model

NEXT_NAMES = (
    (r"^stem\.", "downsample_layers.0."),
    (r"^stages\.(\d+)\.downsample\.", r"downsample_layers.\1."),
    (r"^stages\.(\d+)\.blocks\.", r"stages.\1."),
    (r"conv_dw", "dwconv"),
    (r"mlp\.fc", "pwconv"),
    (r"^head\.norm", "norm"),
)


def swin(spec: BackboneSpec, folder: Path, seed: int) -> Path:
    """`swin_base_patch4_window7_224_22k.pth`: merging at the end of a stage, buffers included."""
    model = random_model(spec, seed)
    state = classifier(spec.width)
    for name, tensor in model.state_dict().items():
        earlier = re.sub(
            r"layers\.(\d+)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", name
        )
        state[earlier] = tensor
    for name, buffer in model.named_buffers():
        if name.endswith(("relative_position_index", "attn_mask")):
            state[name] = buffer
    path = folder / "swin_22k.pth"
    torch.save({"model": state}, path)
    return path


def convnext(spec: BackboneSpec, folder: Path, seed: int) -> Path:
    """`convnext_base_22k_224.pth`: stem and merging in `downsample_layers`."""
    state = classifier(spec.width)
    for name, tensor in random_model(spec, seed).state_dict().items():
        for ours, theirs in NEXT_NAMES:
            name = re.sub(ours, theirs, name)
        state[name] = tensor
    path = folder / "convnext_22k_224.pth"
    torch.save({"model": state}, path)
    return path


def timm(spec: BackboneSpec, folder: Path, seed: int) -> Path:
    """A repository of timm: `model.safetensors` with a classifier, `config.json`."""
    head = (
        ("head.weight", "head.bias") if spec.family == "vit" else ("head.fc.weight", "head.fc.bias")
    )
    state = random_model(spec, seed).state_dict() | classifier(spec.width, *head)
    settings = {"mean": [0.4, 0.4, 0.4], "std": [0.3, 0.3, 0.3], "license": "made-up"}
    config = {
        "architecture": spec.source.partition(".")[0],
        "num_classes": CLASSES,
        "num_features": spec.width,
        "pretrained_cfg": settings,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    path = folder / "model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path
