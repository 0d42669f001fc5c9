"""What a forward pass costs, counted on a model without memory."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from vision_backbones.backbone import Batch
from vision_backbones.catalog import BackboneSpec
from vision_backbones.families import FAMILIES

LONGEST_TEXT = 512  # tokens


def count_flops(spec: BackboneSpec) -> int:
    """Floating-point operations of the features of one image or one text.

    Matrix products and convolutions are counted, with two operations for a multiplication and an
    addition; a CLIP's text tower is not, as its class prompts are not read once per image.

    Args:
        spec: The backbone.

    Returns:
        Operations of a forward pass on one image, or on one text of 512 tokens (or as many as the
        model has positions for).

    Examples:
        >>> from vision_backbones.catalog import find
        >>> count_flops(find("tiny-vit")) == find("tiny-vit").flops
        True
    """
    family = FAMILIES[spec.family]
    with torch.device("meta"):
        backbone = family(spec, family.build(spec, False), ("a",), ("{}",)).eval()
    with FlopCounterMode(display=False) as counter:
        backbone.features(one_example(spec))
    return counter.get_total_flops()


def one_example(spec: BackboneSpec) -> Batch:
    """A batch of one example without memory.

    Args:
        spec: The backbone that it is for.

    Examples:
        >>> from vision_backbones.catalog import find
        >>> one_example(find("tiny-vit"))["image"].shape
        torch.Size([1, 3, 32, 32])
    """
    if spec.modality == "image":
        size = (1, len(spec.mean), spec.input_size, spec.input_size)
        return {"image": torch.empty(size, device="meta")}
    tokens = torch.ones(1, min(spec.input_size, LONGEST_TEXT), dtype=torch.long, device="meta")
    return {"input_ids": tokens, "attention_mask": tokens}
