"""What a file of weights looks like: family, width, depth and patch, read off names and shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


class Shaped(Protocol):
    """Anything with a shape: a tensor, also one without memory."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        ...


# Family, the weight that every block has once (its groups number the block) and the axis of that
# weight that is as long as the model is wide. The first row that matches decides.
BLOCKS: tuple[tuple[str, str, int], ...] = (
    ("vit", r"encoderblock_(\d+)/MultiHeadDotProductAttention_1/query/kernel$", 0),
    ("clip", r"(visual\.)?\btransformer\.resblocks\.(\d+)\.ln_1\.weight$", 0),
    ("clip of transformers", r"(vision|text)_model\.encoder\.layers\.(\d+)\.layer_norm1\.w", 0),
    ("swin", r"\blayers\.(\d+)\.blocks\.(\d+)\.attn\.qkv\.weight$", -1),
    ("vit", r"\bblocks\.(\d+)\.attn\.qkv\.weight$", -1),
    ("convnext", r"\bstages\.(\d+)\.(?:blocks\.)?(\d+)\.(?:dwconv|conv_dw)\.weight$", 0),
    ("vit of transformers", r"\bencoder\.layer\.(\d+)\.layernorm_before\.weight$", 0),
    ("bert", r"\blayer\.(\d+)\.attention\.self\.query\.weight$", -1),
    ("bert", r"\btransformer\.layer\.(\d+)\.attention\.q_lin\.weight$", -1),
    ("llama", r"\blayers\.(\d+)\.self_attn\.q_proj\.weight$", -1),
    ("resnet", r"\blayer(\d)\.(\d+)\.conv1\.weight$", 0),
)  # fmt: skip
PATCHES = (("patch_embed.proj.weight", -1), ("visual.conv1.weight", -1), ("embedding/kernel", 0))
TITLES = {
    "vit": "ViT", "clip": "CLIP", "swin": "Swin", "convnext": "ConvNeXt", "bert": "BERT",
    "llama": "LLaMA", "resnet": "ResNet", "clip of transformers": "CLIP of transformers",
    "vit of transformers": "ViT of transformers",
}  # fmt: skip


@dataclass(frozen=True)
class Looks:
    """Size and family of a model.

    Args:
        family: A family of the catalog, or another that is known by its names.
        width: Channels of the widest block.
        blocks: Number of blocks, all towers and stages together.
        patch: Side of a patch in pixels; None where there are none.

    Examples:
        >>> str(Looks("vit", 768, 12, 16))
        'a ViT of width 768 with 12 blocks and patches of 16 pixels'
    """

    family: str
    width: int
    blocks: int
    patch: int | None

    def __str__(self) -> str:
        patch = f" and patches of {self.patch} pixels" if self.patch else ""
        return f"a {TITLES[self.family]} of width {self.width} with {self.blocks} blocks{patch}"


def looks_of(state: Mapping[str, Shaped]) -> Looks | None:
    """Family and size of the model that some weights belong to.

    Args:
        state: Tensors by name, in any of the known formats, with or without prefixes.

    Returns:
        What they look like; None if no family is recognised.

    Examples:
        >>> import torch
        >>> looks_of({"blocks.0.attn.qkv.weight": torch.ones(9, 3)})
        Looks(family='vit', width=3, blocks=1, patch=None)
    """
    for family, pattern, axis in BLOCKS:
        found = {m.groups(): t for name, t in state.items() if (m := re.search(pattern, name))}
        if found:
            width = max((t.shape[axis] for t in found.values() if len(t.shape)), default=0)
            return Looks(family, width, len(found), _patch(state))
    return None


def _patch(state: Mapping[str, Shaped]) -> int | None:
    """Side of a patch, from the first layer."""
    for name, tensor in state.items():
        for ending, axis in PATCHES:
            if name.endswith(ending) and len(tensor.shape) == 4:
                return tensor.shape[axis]
    return None
