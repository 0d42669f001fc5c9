"""What backbones exist, as data: every fact about them that is not arithmetic stands here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vision_backbones.tiny import BERT_CONTEXT, IMAGE_MEAN, IMAGE_SIZE, IMAGE_STD, WIDTH

HALF = (0.5, 0.5, 0.5)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BUNDLED = "bundled"
GOOGLE = "https://storage.googleapis.com/vit_models/imagenet21k"
META = "https://dl.fbaipublicfiles.com"
OPENAI = "https://openaipublic.azureedge.net/clip/models"


@dataclass(frozen=True, kw_only=True)
class BackboneSpec:
    """Facts about one backbone.

    Args:
        name: The name `load_backbone` takes.
        title: The name for people.
        family: `"vit"`, `"swin"`, `"convnext"` (timm), `"clip"` (open_clip), `"bert"` or `"llama"`
            (transformers).
        modality: `"image"` or `"text"`.
        source: `"bundled"`, or the library's own full name of architecture and weights.
        input_size: Side of the square image in pixels, or number of text positions.
        mean: Channel means that the image is normalised with; empty for text.
        std: Channel standard deviations, likewise.
        width: Length of a feature vector.
        blocks: Number of transformer blocks, text tower included.
        parameters: Number of parameters without the head.
        flops: Floating-point operations of the features of one image (the image tower's), or of
            one text of at most 512 tokens; a multiplication and an addition count as two.
        licence: Licence of the weights.
        interpolation: How images are resized.
        files: Addresses of published files that `checkpoint` takes.
        options: What differs from the library's architecture of that name.
        folder: A folder of transformers that the backbone is described by; empty for none.

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
    flops: int = 0
    licence: str
    interpolation: str = "bicubic"
    files: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    folder: str = ""

    @property
    def bundled(self) -> bool:
        """Whether the weights ship inside this package."""
        return self.source == BUNDLED

    @property
    def weights(self) -> str:
        """Where the weights come from when no checkpoint is given."""
        if self.bundled:
            return "inside this package"
        if self.folder:
            return f"the folder {self.folder}"
        library = {"clip": "open_clip", "bert": "transformers"}.get(self.family, "timm")
        return f"downloaded by {library}: {self.source}"


def _tiny(
    family: str, title: str, blocks: int, parameters: int, flops: int, modality: str = "image"
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
        flops=flops,
        licence="MIT",
    )


def _image(
    name: str, title: str, source: str, width: int, blocks: int, parameters: int, **facts: Any
) -> BackboneSpec:
    """A model of timm or open_clip on 224×224 images; `name` begins with its family or `clip`."""
    family = name.partition("-")[0]
    norm = {"vit": (HALF, HALF), "clip": (CLIP_MEAN, CLIP_STD)}
    mean, std = norm.get(family, (IMAGENET_MEAN, IMAGENET_STD))
    return BackboneSpec(
        name=name,
        title=title,
        family=family,
        modality="image",
        source=source,
        input_size=224,
        mean=mean,
        std=std,
        width=width,
        blocks=blocks,
        parameters=parameters,
        licence=LICENCES[family],
        **facts,
    )


LICENCES = {"vit": "Apache-2.0", "clip": "MIT", "swin": "MIT", "convnext": "Apache-2.0"}
_SPECS = (
    _tiny("vit", "Tiny ViT, pretrained on rendered characters", 3, 355_968, 12_203_136),
    _tiny("clip", "Tiny CLIP, pretrained on characters and their names", 5, 747_361, 12_221_568),
    _tiny("bert", "Tiny BERT, pretrained on character names", 3, 486_432, 22_413_312, "text"),
    _image(
        "vit-b-16", "ViT-B/16", "vit_base_patch16_224.augreg_in21k", 768, 12, 85_798_656,
        flops=35_126_120_448,
        files=(
            f"{GOOGLE}/ViT-B_16.npz", f"{META}/mae/pretrain/mae_pretrain_vit_base.pth",
            f"{META}/moco-v3/vit-b-300ep/vit-b-300ep.pth.tar",
        ),
    ),
    _image(
        "vit-l-16", "ViT-L/16", "vit_large_patch16_224.augreg_in21k", 1024, 24, 303_301_632,
        flops=123_107_377_152,
        files=(f"{GOOGLE}/ViT-L_16.npz", f"{META}/mae/pretrain/mae_pretrain_vit_large.pth"),
    ),
    _image(
        "vit-h-14", "ViT-H/14", "vit_huge_patch14_224.orig_in21k", 1280, 32, 630_764_800,
        flops=334_587_658_240,
        files=(f"{GOOGLE}/ViT-H_14.npz", f"{META}/mae/pretrain/mae_pretrain_vit_huge.pth"),
    ),
    _image(
        "swin-b", "Swin-B", "swin_base_patch4_window7_224.ms_in22k", 1024, 24, 86_743_224,
        flops=30_859_845_632,
        files=(
            "https://github.com/SwinTransformer/storage/releases/download/v1.0.0/"
            "swin_base_patch4_window7_224_22k.pth",
        ),
    ),
    _image(
        "convnext-b", "ConvNeXt-B", "convnext_base.fb_in22k", 1024, 36, 87_566_464,
        flops=30_707_410_944,
        files=(f"{META}/convnext/convnext_base_22k_224.pth",),
    ),
    _image(
        "clip-vit-b-32", "CLIP ViT-B/32", "ViT-B-32-quickgelu/openai", 512, 24, 151_277_313,
        flops=8_817_623_040,
        files=(
            f"{OPENAI}/40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af/"
            "ViT-B-32.pt",
        ),
    ),
    _image(
        "clip-vit-b-16", "CLIP ViT-B/16", "ViT-B-16-quickgelu/openai", 512, 24, 149_620_737,
        flops=35_126_906_880,
        files=(
            f"{OPENAI}/5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f/"
            "ViT-B-16.pt",
        ),
    ),
    _image(
        "clip-vit-l-14", "CLIP ViT-L/14", "ViT-L-14-quickgelu/openai", 768, 36, 427_616_513,
        flops=162_025_537_536,
        files=(
            f"{OPENAI}/b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836/"
            "ViT-L-14.pt",
        ),
    ),
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
        flops=96_637_943_808,
        licence="Apache-2.0",
        files=("https://huggingface.co/google-bert/bert-base-uncased",),
    ),
)  # fmt: skip

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
        name: A name in the catalog, or a folder of transformers with a BERT or LLaMA in it.

    Returns:
        Its record.

    Raises:
        ValueError: No backbone has this name, or several might be meant; the message offers them.

    Examples:
        >>> find("vit-b-16").width
        768
    """
    if name in CATALOG:
        return CATALOG[name]
    if Path(str(name)).is_dir():
        from vision_backbones.folder import spec_of_folder

        return spec_of_folder(Path(name))
    meant = [known for known in CATALOG if name and known.startswith(str(name))]
    if len(meant) > 1:
        raise ValueError(f"ambiguous backbone {name!r}: it may be {' or '.join(meant)}")
    close = meant or difflib.get_close_matches(str(name), CATALOG, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(
        f"unknown backbone {name!r}: {hint}known: {', '.join(CATALOG)}, or a folder of transformers"
    )
