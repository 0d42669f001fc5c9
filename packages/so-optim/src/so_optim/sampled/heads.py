"""Queries, keys and values out of one packed projection, and their gradients back into it.

Autograd would stack the three gradients and then bring the stack into the order of the projection:
two passes over three widths per token. Here each is written once, to where it belongs.
"""

from typing import Any

import torch
from torch import Tensor

__all__ = ["split_heads"]


def split_heads(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """View a packed projection as queries, keys and values.

    Args:
        qkv: Shape `(B, L, 3 * width)`, q, k and v side by side.
        heads: Number of heads.

    Returns:
        Three views of shape `(B, heads, L, width / heads)`.

    Examples:
        >>> q, k, v = split_heads(torch.arange(12.0).view(1, 2, 6), heads=2)
        >>> q.flatten().tolist(), v[0, 1].flatten().tolist()
        ([0.0, 6.0, 1.0, 7.0], [5.0, 11.0])
    """
    return SplitHeads.apply(qkv, heads)


class SplitHeads(torch.autograd.Function):
    """`split_heads` for autograd."""

    @staticmethod
    def forward(qkv: Tensor, heads: int) -> tuple[Tensor, ...]:
        """View."""
        return qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4).unbind()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: tuple[Tensor, ...]) -> None:
        """Remember the shape."""
        ctx.shape = inputs[0].shape

    @staticmethod
    @torch.autograd.function.once_differentiable
    # pyrefly: ignore[bad-override]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """Lay the gradients side by side."""
        return torch.stack([grad.transpose(1, 2) for grad in grads], 2).view(ctx.shape), None
