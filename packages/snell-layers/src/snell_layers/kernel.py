"""Kernels: from two small factors to a full update matrix, and back from its gradient.

A kernel compares every output row with every input row. Shapes, for one matrix with `m` outputs and
`n` inputs (any number of leading dimensions may stand in front, one per stacked matrix):

- `inner` `(heads, n, k)`: the input side, one point per column of the weight;
- `outer` `(heads, m, k)`: the output side, one point per row of the weight;
- the matrix `(m, n)`, laid out like the weight of `nn.Linear`.

Distances are taken from direct differences: the expanded form (two squared norms minus twice the
inner product) loses its digits when both factors share a large offset. Gradients are closed form,
so that nothing of size `m x n` has to survive from forward to backward.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["KERNELS", "Kernel"]


@dataclass(frozen=True)
class Kernel:
    """One kernel: whether it cuts factors into heads, its matrix and its gradients."""

    has_heads: bool
    matrix: Callable[[Tensor, Tensor], Tensor]
    gradients: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


# The release's frozen coefficients are +0.1, -0.1, ...: the matrix takes both signs.
_SCALE = 0.1


def _sign(head: int) -> int:
    """Sign of the coefficient of a head."""
    return 1 if head % 2 == 0 else -1


def _distances(inner: Tensor, outer: Tensor) -> Tensor:
    """Distances `(..., m, n)` of the points of one head, from direct differences."""
    return torch.cdist(outer, inner, compute_mode="donot_use_mm_for_euclid_dist")


def _piecewise_linear(inner: Tensor, outer: Tensor) -> Tensor:
    r"""$w_{ji} = 0.1 \sum_h \pm \lVert outer_{hj} - inner_{hi} \rVert_2$; equal heads cancel."""
    total = _distances(inner[..., 0, :, :], outer[..., 0, :, :])
    for head in range(1, inner.shape[-3]):
        one = _distances(inner[..., head, :, :], outer[..., head, :, :])
        total.add_(one, alpha=_sign(head))
    return total.mul_(_SCALE)


def _piecewise_linear_gradients(
    grad: Tensor, inner: Tensor, outer: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of both factors from the gradient `(..., m, n)` of the matrix."""
    grad_inner, grad_outer = torch.empty_like(inner), torch.empty_like(outer)
    for head in range(inner.shape[-3]):
        a, b = inner[..., head, :, :], outer[..., head, :, :]
        distance = _distances(a, b)
        # The subgradient at distance zero is zero; without the mask it would be 0/0.
        ratio = (grad / distance).masked_fill_(distance == 0, 0).mul_(_SCALE * _sign(head))
        # The kernel does not change when both sides move together, so take the common offset out:
        # below, two sums that are large with it and small without it are subtracted.
        centre = b.mean(-2, keepdim=True)
        a, b = a - centre, b - centre
        grad_inner[..., head, :, :] = a * ratio.sum(-2).unsqueeze(-1) - ratio.mT @ b
        grad_outer[..., head, :, :] = b * ratio.sum(-1).unsqueeze(-1) - ratio @ a
    return grad_inner, grad_outer


def _linear(inner: Tensor, outer: Tensor) -> Tensor:
    r"""$w_{ji} = \langle outer_j, inner_i \rangle$: LoRA's product."""
    return outer[..., 0, :, :] @ inner[..., 0, :, :].mT


def _linear_gradients(grad: Tensor, inner: Tensor, outer: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of both factors from the gradient `(..., m, n)` of the product."""
    grad_inner = grad.mT @ outer[..., 0, :, :]
    grad_outer = grad @ inner[..., 0, :, :]
    return grad_inner.unsqueeze(-3), grad_outer.unsqueeze(-3)


KERNELS: dict[str, Kernel] = {
    "piecewise_linear": Kernel(
        has_heads=True, matrix=_piecewise_linear, gradients=_piecewise_linear_gradients
    ),
    "linear": Kernel(has_heads=False, matrix=_linear, gradients=_linear_gradients),
}
