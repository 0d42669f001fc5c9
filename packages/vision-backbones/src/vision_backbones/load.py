"""From a name to a backbone that is ready for a batch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from vision_backbones.backbone import Backbone
from vision_backbones.catalog import BackboneSpec, find
from vision_backbones.checkpoints import adapted, load_into, read
from vision_backbones.families import FAMILIES, names_of
from vision_backbones.folder import spec_of_folder
from vision_backbones.seeding import seeded
from vision_backbones.tiny import WEIGHTS_FOLDER

RANDOM = "random"
FOLDERS = ("bert", "llama")  # families whose library writes folders


def load_backbone(
    name: str,
    *,
    class_names: Sequence[str],
    templates: Sequence[str] = ("a photo of a {}.",),
    checkpoint: str | os.PathLike[str] | None = None,
    seed: int = 0,
    resize: bool = False,
) -> Backbone:
    """A pretrained model with a head for the given classes.

    CLIP's head comes from the class names; the others get a linear head that starts at zero.

    Args:
        name: A backbone in the catalog, see `list_backbones`, or a folder of transformers with a
            model of the BERT or LLaMA family.
        class_names: One name per class, in the order of the labels.
        templates: Sentences with `{}` where the class name goes; read by CLIP only.
        checkpoint: None for the bundled or published weights, `"random"` for random ones, or a
            file in a published format (Google's npz, MAE, MoCo v3, original Swin and ConvNeXt,
            OpenAI's CLIP, open_clip, timm, transformers, safetensors) that must fit completely.
            With MAE's, MoCo's and others' weights the backbone's `preprocess` is theirs.
        seed: Seed of random weights. The global generator is neither read nor changed.
        resize: Interpolate position embeddings that were trained on another image size; logged.

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
    path = _path(spec, checkpoint)
    if path and spec.family in FOLDERS and (path / "config.json").is_file():
        return _load_folder(spec, path, classes, seed).eval()
    stored = read(path) if path else None
    if stored:
        spec = adapted(spec, stored)
    backbone = _build(spec, classes, sentences, checkpoint is None and path is None, seed)
    if stored:
        load_into(backbone, stored, resize=resize, names_of=names_of)
        backbone.checkpoint = path
    return backbone.eval()


def _path(spec: BackboneSpec, checkpoint: str | os.PathLike[str] | None) -> Path | None:
    """The file to read; None for random weights and for those that the library finds."""
    if checkpoint is None:
        return WEIGHTS_FOLDER / f"{spec.name}.safetensors" if spec.bundled else None
    return None if checkpoint == RANDOM else Path(checkpoint)


def _build(
    spec: BackboneSpec,
    classes: tuple[str, ...],
    sentences: tuple[str, ...],
    pretrained: bool,
    seed: int,
) -> Backbone:
    """A backbone with the library's weights or random ones."""
    family = FAMILIES[spec.family]
    with seeded(seed):
        remote = pretrained and not spec.folder
        model = _download(family, spec) if remote else family.build(spec, pretrained)
        backbone = family(spec, model, classes, sentences)
    if pretrained and spec.folder:
        backbone.checkpoint = Path(spec.folder)
    return backbone


def _load_folder(spec: BackboneSpec, folder: Path, classes: tuple[str, ...], seed: int) -> Backbone:
    """A backbone of the catalog with the weights of a folder of transformers."""
    found = spec_of_folder(folder)
    size = (found.family, found.width, found.blocks)
    if size != (spec.family, spec.width, spec.blocks):
        raise ValueError(
            f"checkpoint '{folder}' does not fit {spec.name}: it looks like a {found.family} of "
            f"width {found.width} with {found.blocks} blocks, {spec.name} is a {spec.family} of "
            f"width {spec.width} with {spec.blocks}; nothing was loaded. Give the folder itself as "
            "the backbone's name"
        )
    return _build(replace(found, name=spec.name, title=spec.title), classes, ("{}",), True, seed)


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
