"""From a name to a backbone that is ready for a batch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from vision_backbones.backbone import Backbone
from vision_backbones.bert import BertBackbone
from vision_backbones.catalog import BackboneSpec, find
from vision_backbones.checkpoints import load_into, seeded
from vision_backbones.clip import ClipBackbone
from vision_backbones.tiny import WEIGHTS_FOLDER
from vision_backbones.vit import VitBackbone

FAMILIES: dict[str, type[Backbone]] = {
    "vit": VitBackbone,
    "clip": ClipBackbone,
    "bert": BertBackbone,
}
RANDOM = "random"


def load_backbone(
    name: str,
    *,
    class_names: Sequence[str],
    templates: Sequence[str] = ("a photo of a {}.",),
    checkpoint: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> Backbone:
    """A pretrained model with a head for the given classes.

    CLIP's head comes from the class names; the others get a linear head that starts at zero.

    Args:
        name: A backbone in the catalog, see `list_backbones`.
        class_names: One name per class, in the order of the labels.
        templates: Sentences with `{}` where the class name goes; read by CLIP only.
        checkpoint: None for the bundled or published weights, `"random"` for random ones, or a
            file (`.safetensors`, or `.pt`, `.pth`, `.bin` without code) that must fit completely.
        seed: Seed of random weights. The global generator is neither read nor changed.

    Returns:
        The backbone on the CPU in float32, in evaluation mode.

    Raises:
        ValueError: An unknown name, no class, a template without `{}`, or a checkpoint that does
            not fit or cannot be downloaded.
        FileNotFoundError: The checkpoint does not exist.

    Examples:
        >>> backbone = load_backbone("tiny-clip", class_names=["digit zero", "digit one"])
        >>> backbone.zero_shot, len(backbone.blocks())
        (True, 5)
    """
    spec = find(name)
    classes, sentences = _checked_names(class_names), _checked_templates(templates)
    family = FAMILIES[spec.family]
    with seeded(seed):
        model = (
            _download(family, spec) if _is_remote(spec, checkpoint) else family.build(spec, False)
        )
        backbone = family(spec, model, classes, sentences)
    path = WEIGHTS_FOLDER / f"{name}.safetensors" if checkpoint is None else Path(checkpoint)
    if not _is_remote(spec, checkpoint) and checkpoint != RANDOM:
        load_into(backbone, path)
        backbone.checkpoint = path
    return backbone.eval()


def _is_remote(spec: BackboneSpec, checkpoint: str | os.PathLike[str] | None) -> bool:
    """Whether the library has to fetch the weights."""
    return checkpoint is None and not spec.bundled


def _download(family: type[Backbone], spec: BackboneSpec) -> nn.Module:
    """The library's module with the weights it downloads or has in its cache."""
    try:
        return family.build(spec, True)
    except Exception as error:  # every library reports a failed download in its own way
        raise ValueError(
            f"the weights of {spec.name} could not be downloaded ({type(error).__name__}): get "
            f"{family.weights_address(spec)} and pass its path as checkpoint=, or use "
            "checkpoint='random'"
        ) from error


def _checked_names(class_names: Sequence[str]) -> tuple[str, ...]:
    """Class names, which must be a list of strings and not one string."""
    names = () if isinstance(class_names, str) else tuple(class_names)
    if not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise ValueError(
            f"class_names must be a list with one non-empty string per class, got {class_names!r}"
        )
    return names


def _checked_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """Prompt templates, each with one place for the name."""
    sentences = () if isinstance(templates, str) else tuple(templates)
    if not sentences:
        raise ValueError(f"templates must be a list of sentences with '{{}}', got {templates!r}")
    for template in sentences:
        if template.count("{}") != 1:
            raise ValueError(f"template {template!r} needs '{{}}' once, where the class name goes")
    return sentences
