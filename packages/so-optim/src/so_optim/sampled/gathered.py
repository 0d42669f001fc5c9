r"""The fallback for every other use of a weight: a dense gradient, gathered and freed at once.

`gathered(W, leaf, S)` returns $W$. Whatever is computed with it, autograd forms the dense gradient
of that one use, this node reads $k$ values from it and lets it go; no dense `.grad` is ever stored,
and what reaches the optimizer is the same compact leaf as everywhere else.
"""

from typing import Any

import torch
from torch import Tensor

from so_optim.sampled.sddmm import accumulator

__all__ = ["gathered", "samples"]


def gathered(weight: Tensor, values: Tensor, positions: Tensor) -> Tensor:
    """Return a weight whose gradient flows to a compact leaf.

    Args:
        weight: Frozen, any shape.
        values: The compact leaf, shape `(k,)`, zeros.
        positions: Row-major flat positions of its entries in `weight`, shape `(k,)`.

    Returns:
        The weight, connected to `values`.

    Examples:
        >>> leaf = torch.zeros(2, requires_grad=True)
        >>> w = gathered(torch.ones(2, 2), leaf, torch.tensor([1, 3]))
        >>> (w * torch.tensor([[1.0, 2.0], [3.0, 4.0]])).sum().backward()
        >>> leaf.grad
        tensor([2., 4.])
    """
    return Gathered.apply(weight, values, positions)


def samples(weight: Tensor, values: Tensor) -> bool:
    """Tell whether a gradient is to be computed at the support alone.

    Args:
        weight: As it is used now; `functional_call` may bring one that is not frozen.
        values: Its compact leaf.

    Returns:
        False if there is no backward pass, or one to the weight itself: then it is dense.
    """
    return torch.is_grad_enabled() and values.requires_grad and not weight.requires_grad


class Gathered(torch.autograd.Function):
    """`gathered` for autograd."""

    @staticmethod
    def forward(weight: Tensor, values: Tensor, positions: Tensor) -> Tensor:
        """Return the same numbers, as a new view."""
        return weight.view_as(weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        """Keep where to read."""
        _, values, positions = inputs
        ctx.save_for_backward(positions)
        ctx.dtype = values.dtype

    @staticmethod
    @torch.autograd.function.once_differentiable
    # pyrefly: ignore[bad-override]
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None]:
        """Read the dense gradient at the support."""
        (positions,) = ctx.saved_tensors
        grad = grad.to_dense() if grad.is_sparse else grad  # of an embedding with sparse=True
        index = torch.unravel_index(positions, grad.shape)
        return None, grad[index].to(accumulator(grad.dtype)).to(ctx.dtype), None
