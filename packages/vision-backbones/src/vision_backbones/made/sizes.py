"""Small versions of the full-size backbones: the same class of the same library, fewer channels."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from vision_backbones.catalog import CATALOG, BackboneSpec, find
from vision_backbones.families import FAMILIES
from vision_backbones.seeding import seeded
from vision_backbones.tiny import VOCABULARY

# Every name has another width and depth, so that one size cannot be taken for another.
OPTIONS: dict[str, dict[str, Any]] = {
    "vit-b-16": {"img_size": 32, "embed_dim": 24, "depth": 2, "num_heads": 3},
    "vit-l-16": {"img_size": 32, "embed_dim": 32, "depth": 3, "num_heads": 4},
    "vit-h-14": {"img_size": 28, "embed_dim": 40, "depth": 4, "num_heads": 5},
    "swin-b": {
        "img_size": 64, "window_size": 4, "embed_dim": 8, "depths": (2, 1, 2, 1),
        "num_heads": (1, 2, 4, 8),
    },
    "convnext-b": {"depths": (1, 1, 2, 1), "dims": (8, 12, 16, 20)},
    "clip-vit-b-32": {
        "embed_dim": 24, "vision_cfg": {"image_size": 64, "width": 64, "layers": 2},
        "text_cfg": {"width": 64, "heads": 1, "layers": 2},
    },
    "clip-vit-b-16": {
        "embed_dim": 24, "vision_cfg": {"image_size": 32, "width": 64, "layers": 3},
        "text_cfg": {"width": 64, "heads": 1, "layers": 2},
    },
    "clip-vit-l-14": {
        "embed_dim": 32, "vision_cfg": {"image_size": 28, "width": 128, "layers": 3},
        "text_cfg": {"width": 64, "heads": 1, "layers": 3},
    },
    "bert-base": {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "vocab_size": VOCABULARY, "max_position_embeddings": 64,
    },
}  # fmt: skip
INPUT = {
    "swin-b": 64, "convnext-b": 32, "clip-vit-b-32": 64, "clip-vit-l-14": 28, "vit-h-14": 28,
    "bert-base": 64,
}  # fmt: skip
FULL_SIZE = dict(CATALOG)  # as it is outside `shrunk`


@functools.cache
def small(name: str) -> BackboneSpec:
    """The record of the small version of a backbone; a bundled one is small already.

    Args:
        name: A name in the catalog.

    Returns:
        A record of the same name, family and source, with facts counted on the small model.

    Examples:
        >>> spec = small("vit-b-16")
        >>> spec.name, spec.width, spec.blocks
        ('vit-b-16', 24, 2)
    """
    spec = FULL_SIZE[name] if name in FULL_SIZE else find(name)
    if spec.bundled:
        return spec
    spec = replace(spec, options=OPTIONS[name], input_size=INPUT.get(name, 32))
    family = FAMILIES[spec.family]
    with torch.device("meta"), seeded(0):
        model = family.build(spec, False)
        backbone = family(replace(spec, width=1), model, ("a",), ("{}",))
    width = OPTIONS[name].get("hidden_size") or _width(spec, OPTIONS[name])
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return replace(spec, width=width, blocks=len(backbone.blocks()), parameters=parameters)


@contextlib.contextmanager
def shrunk() -> Iterator[dict[str, BackboneSpec]]:
    """Let every name of the catalog stand for its small version, for as long as this lasts.

    Examples:
        >>> from vision_backbones import load_backbone
        >>> with shrunk():
        ...     backbone = load_backbone("vit-h-14", class_names=["a"], checkpoint="random")
        >>> len(backbone.blocks())
        4
    """
    before = dict(CATALOG)
    try:
        CATALOG.update({name: small(name) for name in before})
        yield dict(CATALOG)
    finally:
        CATALOG.update(before)


def _width(spec: BackboneSpec, options: dict[str, Any]) -> int:
    """Length of the features of a small image model."""
    if spec.family == "swin":
        return 8 * options["embed_dim"]
    return options["dims"][-1] if spec.family == "convnext" else options["embed_dim"]
