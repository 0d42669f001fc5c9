r"""An embedding whose weight gradient exists at the support alone.

The gradient of row $i$ is the sum of the output gradients of the tokens that are $i$. A batch knows
at most $N$ different tokens, so the sums take `(N, d)` at most, never `(vocabulary, d)`; an entry
$(i, j)$ of the support looks up its row there, and is zero if no token asked for it.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from so_optim.sampled.gathered import samples
from so_optim.sampled.sddmm import accumulator

__all__ = ["sampled_embedding"]


def sampled_embedding(
    tokens: Tensor,
    weight: Tensor,
    values: Tensor,
    rows: Tensor,
    cols: Tensor,
    *,
    padding_idx: int | None = None,
) -> Tensor:
    r"""Look tokens up in a table whose gradient is computed at the support.

    Args:
        tokens: Integers, any shape.
        weight: The table, frozen, shape `(vocabulary, d)`.
        values: The compact leaf, shape `(k,)`, zeros.
        rows: Token of each entry, shape `(k,)`.
        cols: Feature of each entry, shape `(k,)`.
        padding_idx: Token whose row has no gradient.

    Returns:
        Shape `(*tokens.shape, d)`.

    Examples:
        >>> leaf = torch.zeros(2, requires_grad=True)
        >>> rows, cols = torch.tensor([1, 2]), torch.tensor([0, 3])
        >>> out = sampled_embedding(torch.tensor([1, 1, 0]), torch.ones(3, 4), leaf, rows, cols)
        >>> out.sum().backward()
        >>> leaf.grad
        tensor([2., 0.])
    """
    if not samples(weight, values):
        return F.embedding(tokens, weight)
    return SampledEmbedding.apply(tokens, weight, values, rows, cols, padding_idx)


class SampledEmbedding(torch.autograd.Function):
    """`sampled_embedding` for autograd."""

    @staticmethod
    def forward(
        tokens: Tensor,
        weight: Tensor,
        values: Tensor,
        rows: Tensor,
        cols: Tensor,
        padding_idx: int | None,
    ) -> Tensor:
        """Look up."""
        return F.embedding(tokens, weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the tokens and the support."""
        tokens, _, values, rows, cols, ctx.padding_idx = inputs
        ctx.save_for_backward(tokens, rows, cols)
        ctx.dtype = values.dtype

    @staticmethod
    @torch.autograd.function.once_differentiable
    # pyrefly: ignore[bad-override]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Sum the gradients of equal tokens, then look the entries up."""
        tokens, rows, cols = ctx.saved_tensors
        wide = accumulator(grad.dtype)
        if tokens.numel() == 0:
            return None, None, rows.new_zeros(len(rows), dtype=ctx.dtype), None, None, None
        found, order = tokens.flatten().sort(stable=True)
        starts = torch.ones_like(found)
        starts[1:] = found[1:] != found[:-1]
        place = starts.cumsum(0) - 1  # number of the distinct token, in ascending order
        sums = grad.new_zeros(len(found), grad.shape[-1], dtype=wide)
        sums.index_add_(0, place, grad.flatten(0, -2).index_select(0, order).to(wide))
        at = torch.searchsorted(found, rows.to(found.dtype)).clamp_(max=len(found) - 1)
        seen = found[at] == rows
        if ctx.padding_idx is not None:
            seen &= rows != ctx.padding_idx
        values = sums[place[at], cols].masked_fill_(~seen, 0)
        return None, None, values.to(ctx.dtype), None, None, None
