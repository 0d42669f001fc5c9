"""What backbones exist, as data: every fact about them that is not arithmetic stands here."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from vision_backbones.tiny import BERT_CONTEXT, IMAGE_MEAN, IMAGE_SIZE, IMAGE_STD, WIDTH

HALF = (0.5, 0.5, 0.5)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
BUNDLED = "bundled"


@dataclass(frozen=True, kw_only=True)
class BackboneSpec:
    """Facts about one backbone.

    Args:
        name: The name `load_backbone` takes.
        title: The name for people.
        family: `"vit"` (timm), `"clip"` (open_clip) or `"bert"` (transformers).
        modality: `"image"` or `"text"`.
        source: `"bundled"`, or the library's own full name of architecture and weights.
        input_size: Side of the square image in pixels, or number of text positions.
        mean: Channel means that the image is normalised with; empty for text.
        std: Channel standard deviations, likewise.
        width: Length of a feature vector.
        blocks: Number of transformer blocks, text tower included.
        parameters: Number of parameters without the head.
        licence: Licence of the weights.
        interpolation: How images are resized.

    Examples:
        >>> find("tiny-vit").input_size
        32
    """

    name: str
    title: str
    family: str
    modality: str
    source: str
    input_size: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    width: int
    blocks: int
    parameters: int
    licence: str
    interpolation: str = "bicubic"

    @property
    def bundled(self) -> bool:
        """Whether the weights ship inside this package."""
        return self.source == BUNDLED


def _tiny(
    family: str, title: str, blocks: int, parameters: int, modality: str = "image"
) -> BackboneSpec:
    """A backbone whose weights ship with the package."""
    image = modality == "image"
    return BackboneSpec(
        name=f"tiny-{family}",
        title=title,
        family=family,
        modality=modality,
        source=BUNDLED,
        input_size=IMAGE_SIZE if image else BERT_CONTEXT,
        mean=(IMAGE_MEAN,) * 3 if image else (),
        std=(IMAGE_STD,) * 3 if image else (),
        width=WIDTH,
        blocks=blocks,
        parameters=parameters,
        licence="MIT",
    )


def _vit(
    name: str, title: str, source: str, width: int, blocks: int, parameters: int
) -> BackboneSpec:
    """A timm vision transformer on 224×224 images, pretrained on ImageNet-21k."""
    return BackboneSpec(
        name=name,
        title=title,
        family="vit",
        modality="image",
        source=source,
        input_size=224,
        mean=HALF,
        std=HALF,
        width=width,
        blocks=blocks,
        parameters=parameters,
        licence="Apache-2.0",
    )


def _clip(
    name: str, title: str, source: str, width: int, blocks: int, parameters: int
) -> BackboneSpec:
    """An OpenAI CLIP, in the quick-GELU variant that its weights were made for."""
    return BackboneSpec(
        name=name,
        title=title,
        family="clip",
        modality="image",
        source=source,
        input_size=224,
        mean=CLIP_MEAN,
        std=CLIP_STD,
        width=width,
        blocks=blocks,
        parameters=parameters,
        licence="MIT",
    )


_SPECS = (
    _tiny("vit", "Tiny ViT, pretrained on rendered characters", 3, 355_968),
    _tiny("clip", "Tiny CLIP, pretrained on characters and their names", 3 + 2, 747_361),
    _tiny("bert", "Tiny BERT, pretrained on character names", 3, 486_432, modality="text"),
    _vit("vit-b-16", "ViT-B/16", "vit_base_patch16_224.augreg_in21k", 768, 12, 85_798_656),
    _vit("vit-l-16", "ViT-L/16", "vit_large_patch16_224.augreg_in21k", 1024, 24, 303_301_632),
    _vit("vit-h-14", "ViT-H/14", "vit_huge_patch14_224.orig_in21k", 1280, 32, 630_764_800),
    _clip("clip-vit-b-32", "CLIP ViT-B/32", "ViT-B-32-quickgelu/openai", 512, 24, 151_277_313),
    _clip("clip-vit-b-16", "CLIP ViT-B/16", "ViT-B-16-quickgelu/openai", 512, 24, 149_620_737),
    _clip("clip-vit-l-14", "CLIP ViT-L/14", "ViT-L-14-quickgelu/openai", 768, 36, 427_616_513),
    BackboneSpec(
        name="bert-base",
        title="BERT-base, uncased",
        family="bert",
        modality="text",
        source="google-bert/bert-base-uncased",
        input_size=512,
        width=768,
        blocks=12,
        parameters=109_482_240,
        licence="Apache-2.0",
    ),
)

CATALOG: dict[str, BackboneSpec] = {spec.name: spec for spec in _SPECS}


def list_backbones() -> tuple[BackboneSpec, ...]:
    """Every known backbone, the bundled ones first.

    Returns:
        The catalog's records.

    Examples:
        >>> [spec.name for spec in list_backbones() if spec.bundled]
        ['tiny-vit', 'tiny-clip', 'tiny-bert']
    """
    return tuple(CATALOG.values())


def find(name: str) -> BackboneSpec:
    """The record of one backbone.

    Args:
        name: A name in the catalog.

    Returns:
        Its record.

    Raises:
        ValueError: No backbone has this name; the message offers the closest one.

    Examples:
        >>> find("vit-b-16").width
        768
    """
    if name in CATALOG:
        return CATALOG[name]
    close = difflib.get_close_matches(str(name), CATALOG, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(f"unknown backbone {name!r}: {hint}known: {', '.join(CATALOG)}")
