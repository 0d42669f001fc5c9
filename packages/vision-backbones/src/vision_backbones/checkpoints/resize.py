"""Position embeddings for another number of patches: only when asked, and said."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch

State = dict[str, torch.Tensor]
TABLE = "relative_position_bias_table"
ENDINGS = ("pos_embed", "visual.positional_embedding", TABLE)

log = logging.getLogger(__name__)


def misfits(state: State, own: State) -> list[str]:
    """Names of the position embeddings that differ in shape.

    Args:
        state: Tensors from a file, by the model's names.
        own: The model's tensors.

    Examples:
        >>> misfits({"pos_embed": torch.ones(1, 5, 2)}, {"pos_embed": torch.ones(1, 10, 2)})
        ['pos_embed']
    """
    return [
        name
        for name in state
        if name.endswith(ENDINGS)
        and name in own
        and state[name].shape != own[name].shape
        and _resizable(state[name], own[name])
    ]


def resized(state: State, model: Any) -> State:
    """Interpolate position embeddings to the model's number of patches, as the libraries do.

    Args:
        state: Tensors from a file, by the model's names.
        model: The library's module.

    Returns:
        A new dictionary; every change is logged.
    """
    own = model.state_dict()
    changed = dict(state)
    for name in misfits(state, own):
        changed[name] = _interpolated(name, state[name], model)
        before, after = tuple(state[name].shape), tuple(changed[name].shape)
        log.warning("%s is interpolated from %s to %s", name, before, after)
    return changed


def _resizable(tensor: torch.Tensor, own: torch.Tensor) -> bool:
    """Whether only the number of positions differs, not the width."""
    return tensor.ndim == own.ndim and tensor.shape[-1] == own.shape[-1]


def _interpolated(name: str, tensor: torch.Tensor, model: Any) -> torch.Tensor:
    """One tensor in the model's size, by the library's own function."""
    if name.endswith(TABLE):
        from timm.layers import resize_rel_pos_bias_table

        attention = model.get_submodule(name.removesuffix(f".{TABLE}"))
        shape = tuple(attention.relative_position_bias_table.shape)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a note on the speed of timm's interpolation
            return resize_rel_pos_bias_table(tensor, attention.window_size, shape)
    if name.startswith("visual."):
        from open_clip.model import resize_pos_embed

        state = {name: tensor.float()}
        resize_pos_embed(state, model)
        return state[name]
    from timm.layers import resample_abs_pos_embed

    grid = model.patch_embed.grid_size
    prefix = 0 if model.no_embed_class else model.num_prefix_tokens
    return resample_abs_pos_embed(tensor, list(grid), num_prefix_tokens=prefix)
