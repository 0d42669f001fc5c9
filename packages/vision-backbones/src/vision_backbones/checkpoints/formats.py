"""The published formats, as data: how each is recognised and turned into the library's names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from vision_backbones.catalog import HALF, IMAGENET_MEAN, IMAGENET_STD, BackboneSpec
from vision_backbones.checkpoints import published
from vision_backbones.checkpoints.beside import open_clip_facts, timm_facts
from vision_backbones.checkpoints.looks import looks_of
from vision_backbones.checkpoints.read import Stored

State = dict[str, torch.Tensor]
HALVES = {"mean": HALF, "std": HALF}
NONCOMMERCIAL = {
    "mean": IMAGENET_MEAN,
    "std": IMAGENET_STD,
    "licence": "CC-BY-NC-4.0",
}


@dataclass(frozen=True)
class Format:
    """One way in which weights are published.

    Args:
        name: Short name.
        title: Name for people.
        families: Backbone families that it exists for.
        recognise: Whether a file is of this format.
        convert: From the file's names to the library's; heads of the pretraining task dropped.
        facts: What the catalog's record becomes with such weights.
    """

    name: str
    title: str
    families: tuple[str, ...]
    recognise: Callable[[Stored], bool]
    convert: Callable[[State], State]
    facts: dict[str, Any] = field(default_factory=dict)


def _is_whole(stored: Stored) -> bool:
    """Whether the file holds a whole backbone of this package."""
    return all(name.startswith(("model.", "head.")) for name in stored.state)


def _is_mae(stored: Stored) -> bool:
    """Whether it is MAE's: a ViT under "model" without a classifier, or with MAE's decoder."""
    names = stored.state
    plain_vit = "blocks.0.attn.qkv.weight" in names and "pos_embed" in names
    headless = stored.wrapper == "model" and not any(n.startswith("head") for n in names)
    return plain_vit and (headless or "decoder_pos_embed" in names)


def _is_moco(stored: Stored) -> bool:
    """Whether it is MoCo v3's: encoders under "module.", or its linear probe's model."""
    vit = any(name.endswith("blocks.0.attn.qkv.weight") for name in stored.state)
    return vit and any(name.startswith("module.") for name in stored.state)


def _is_google(stored: Stored) -> bool:
    """Whether it is Google's: the names of Flax."""
    return any("Transformer/encoderblock_0/" in name for name in stored.state)


def _is_original_swin(stored: Stored) -> bool:
    """Whether it is the authors' Swin: their buffers, or their place of the first merging."""
    merging = "layers.0.downsample.reduction.weight" in stored.state
    return merging or any(name.endswith("relative_position_index") for name in stored.state)


def _is_original_next(stored: Stored) -> bool:
    """Whether it is the authors' ConvNeXt."""
    return "stages.0.0.dwconv.weight" in stored.state or "downsample_layers.0.0.weight" in (
        stored.state
    )


def _is_openai(stored: Stored) -> bool:
    """Whether it is OpenAI's CLIP: an archive, or the settings that only OpenAI stores."""
    clip = any(name.endswith("visual.conv1.weight") for name in stored.state)
    return clip and (stored.container == "torchscript" or "input_resolution" in stored.state)


def _of(*families: str) -> Callable[[Stored], bool]:
    """Whether the names are those that the library of some family uses."""

    def recognise(stored: Stored) -> bool:
        looks = looks_of(stored.state)
        return looks is not None and looks.family in families

    return recognise


TIMM = ("vit", "swin", "convnext")
EVERY = (*TIMM, "clip", "bert", "llama")
FORMATS: tuple[Format, ...] = (
    Format("whole", "this package's own", EVERY, _is_whole, dict),
    Format("google", "Google's ViT (.npz)", ("vit",), _is_google, published.google, HALVES),
    Format("moco-v3", "MoCo v3", ("vit",), _is_moco, published.moco, NONCOMMERCIAL),
    Format("mae", "MAE", ("vit",), _is_mae, published.mae, NONCOMMERCIAL),
    Format("swin", "original Swin", ("swin",), _is_original_swin, published.swin),
    Format("convnext", "original ConvNeXt", ("convnext",), _is_original_next, published.convnext),
    Format("openai", "OpenAI's CLIP", ("clip",), _is_openai, published.open_clip),
    Format("open_clip", "open_clip", ("clip",), _of("clip"), published.open_clip),
    Format("transformers", "transformers", ("bert",), _of("bert"), published.bert),
    Format("timm", "timm", TIMM, _of(*TIMM), published.timm),
)  # fmt: skip
UNKNOWN = Format("unknown", "an unknown format", (), lambda _: True, dict)


def format_of(stored: Stored) -> Format:
    """The format of a file, from its names.

    Args:
        stored: What the file holds.

    Returns:
        The first format that recognises it, or `UNKNOWN`.
    """
    return next((known for known in FORMATS if known.recognise(stored)), UNKNOWN)


def adapted(spec: BackboneSpec, stored: Stored) -> BackboneSpec:
    """The catalog's record as it is with the weights of a file: preprocessing and licence.

    Args:
        spec: The catalog's record.
        stored: What the file holds.

    Returns:
        The record, changed where the format is known to differ.
    """
    known = format_of(stored)
    if spec.family not in known.families:
        return spec
    facts = dict(known.facts)
    if known.name == "timm":
        facts |= timm_facts(stored.path)
    elif known.name == "open_clip" and not spec.bundled:
        facts |= open_clip_facts(stored.path, dict(spec.options))
    return replace(spec, **facts)
