"""Which class makes the backbones of a family, and which backbones look like a file."""

from __future__ import annotations

import torch

from vision_backbones.backbone import Backbone
from vision_backbones.bert import BertBackbone
from vision_backbones.catalog import CATALOG, BackboneSpec
from vision_backbones.checkpoints.looks import Looks, looks_of
from vision_backbones.clip import ClipBackbone
from vision_backbones.llama import LlamaBackbone
from vision_backbones.vit import ConvNextBackbone, SwinBackbone, VitBackbone

FAMILIES: dict[str, type[Backbone]] = {
    "vit": VitBackbone,
    "swin": SwinBackbone,
    "convnext": ConvNextBackbone,
    "clip": ClipBackbone,
    "bert": BertBackbone,
    "llama": LlamaBackbone,
}


def names_of(looks: Looks) -> list[str]:
    """Backbones of the catalog that look like a file.

    Args:
        looks: What the file looks like.

    Returns:
        Their names; models of the family are built without memory to see.

    Examples:
        >>> names_of(Looks("vit", 1024, 24, 16))
        ['vit-l-16']
    """
    family = [spec for spec in CATALOG.values() if spec.family == looks.family]
    return [spec.name for spec in family if looks_of_spec(spec) == looks]


def looks_of_spec(spec: BackboneSpec) -> Looks | None:
    """What a backbone's own weights look like.

    Args:
        spec: The catalog's record.
    """
    with torch.device("meta"):
        return looks_of(FAMILIES[spec.family].build(spec, False).state_dict())
