"""Distances of two sets of points, and the gradient of whatever moves with their differences."""

import torch
from torch import Tensor

__all__ = ["can_be_asked", "distances", "fold_differences", "squared_distances"]


def can_be_asked(tensor: Tensor) -> bool:
    """Whether looking at a value costs nothing: on a CPU, and neither traced nor simulated."""
    plain = type(tensor) is Tensor and tensor.device.type == "cpu"
    return plain and not torch.compiler.is_compiling()


def squared_distances(inner: Tensor, outer: Tensor) -> Tensor:
    """Squared distances `(..., m, n)` of the points of one head, from direct differences.

    One rounded operation at a time, in this order: the compiled kernels do the same, so every path
    finds the same bits, and with them the same threshold and the same survivors.
    """
    points = inner.mT.contiguous()
    total = outer[..., 0, None] - points[..., None, 0, :]
    total.mul_(total)
    scratch = torch.empty_like(total) if inner.shape[-1] > 1 else None
    for d in range(1, inner.shape[-1]):
        difference = torch.sub(outer[..., d, None], points[..., None, d, :], out=scratch)
        total.add_(difference.mul_(difference))
    return total


def distances(inner: Tensor, outer: Tensor) -> tuple[Tensor, Tensor]:
    r"""Distances of the points of one head, and one over each of them.

    $d = q \cdot (1 / \sqrt q)$, because torch rounds a reciprocal root like any IEEE arithmetic,
    while its root goes through a vector library whose last bit depends on the processor.

    Args:
        inner: Points `(..., n, k)`.
        outer: Points `(..., m, k)`.

    Returns:
        Distances and inverses, `(..., m, n)`. The inverse of zero is zero here: it only serves the
        gradient, whose subgradient at distance zero is zero.
    """
    squared = squared_distances(inner, outer)
    inverse = squared.rsqrt()
    # On a CPU a look at the smallest one is cheaper than a mask; elsewhere nobody may wait for it.
    if not can_be_asked(squared) or squared.numel() == 0 or squared.amin() == 0:
        inverse.masked_fill_(squared == 0, 0)
    return squared.mul_(inverse), inverse


def fold_differences(slope: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    r"""Gradients of `a` and `b`, where the matrix moves by `slope` times $\pm(b_j - a_i)$.

    Two thin products, each with a row of ones that makes the sums. In one dimension, where points
    often lie close together and slopes are large, the products would lose digits that the
    differences keep.
    """
    if a.shape[-1] == 1:
        parts = slope * (b - a.mT)
        return -parts.sum(-2).unsqueeze(-1), parts.sum(-1, keepdim=True)
    # A kernel of differences does not change when both sides move together, so take the common
    # offset out: below, two sums that are large with it and small without it are subtracted.
    centre = b.mean(-2, keepdim=True)
    a, b = (a - centre).mT, (b - centre).mT
    at_a = torch.cat([b, torch.ones_like(b[..., :1, :])], -2) @ slope  # (..., k + 1, n)
    at_b = torch.cat([a, torch.ones_like(a[..., :1, :])], -2) @ slope.mT  # (..., k + 1, m)
    grad_a = a * at_a[..., -1:, :] - at_a[..., :-1, :]
    grad_b = b * at_b[..., -1:, :] - at_b[..., :-1, :]
    return grad_a.mT, grad_b.mT
