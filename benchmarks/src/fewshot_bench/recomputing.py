"""Gradient checkpointing: blocks that keep their input and nothing of what is inside them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from vision_backbones import Backbone

__all__ = ["recomputed"]


@contextmanager
def recomputed(backbone: "Backbone") -> Iterator[None]:
    """Let each block of a backbone be computed again in backward; afterwards all is as before.

    Args:
        backbone: Perhaps with adapters inside its blocks.
    """
    blocks = backbone.blocks()
    for block in blocks:
        block.forward = partial(_again, block.forward)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def _again(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run a block so that backward runs it once more; where nothing is learned, just run it."""
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)
