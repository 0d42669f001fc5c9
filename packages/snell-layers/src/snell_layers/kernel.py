r"""Kernels: from two small factors to a full update matrix, and back from its gradient.

A kernel compares every output row with every input row. Shapes, for one matrix with `m` outputs and
`n` inputs (any number of leading dimensions may stand in front, one per stacked matrix):

- `inner` `(heads, n, k)`: the input side, one point $a_i$ per column of the weight;
- `outer` `(heads, m, k)`: the output side, one point $b_j$ per row of the weight;
- `coefficients` `(count,)`: the kernel's few scalars, or `None` for the values they start from;
- the matrix `(m, n)`, laid out like the weight of `nn.Linear`.

| kernel | $w_{ji}$ | coefficients at the start |
|---|---|---|
| `piecewise_linear` | $\sum_h \alpha_h \lVert b^h_j - a^h_i \rVert_2$ | $\alpha_h = \pm 0.1$ |
| `linear` | $\langle b_j, a_i \rangle$ | none |
| `sigmoid` | $\alpha\,\sigma(\beta \langle b_j, a_i \rangle) + \gamma$ | $1, 1, -\tfrac12$ |
| `rbf` | $\alpha\,\exp(-\beta \lVert b_j - a_i \rVert_2^2) + \gamma$ | $1, 1, -1$ |
| `mixed` | $D_{ji} + \alpha\,\mathrm{softmax}_j(D_{ji} / \gamma) + \beta$ | $1, 0, 1$ |

$D$ is the `piecewise_linear` matrix with its frozen coefficients. The first four are table A6 of
arXiv 2411.01800, which learns the scalars; the release holds those of the distance kernel and
leaves `sigmoid` and `rbf` out, so their start, with which the update begins near zero, is ours. The
last one is the kernel of SNELLA (arXiv 2510.24037) as in its release, scalars learned: its softmax
runs over all outputs of an input.

Distances are taken from direct differences: the expanded form (two squared norms minus twice the
inner product) loses its digits when both factors share a large offset. Gradients are closed form,
so that nothing of size `m x n` has to survive from forward to backward.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .distance import distances, fold_differences, squared_distances

__all__ = ["KERNELS", "SCALE", "Kernel"]

Scalar = float | Tensor
Gradients = tuple[Tensor, Tensor, Tensor | None]
Distances = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Kernel:
    """One kernel: its factors and scalars, its matrix and its gradients.

    Attributes:
        has_heads: Whether it cuts factors into heads.
        learns: Whether its coefficients are trained unless the user says otherwise.
        start: Coefficients at the start, from the number of heads.
        evaluate: `(inner, outer, coefficients)` to the matrix, and what `gradients` can use again.
        gradients: `(grad, kept, inner, outer, coefficients)` to the gradients of the last three;
            `kept` is used up.
        zero_update: Whether factors exist from which a zero update trains.
        couples_outputs: Whether an entry depends on the whole column it is in, so that a tile has
            to span all outputs.
    """

    has_heads: bool
    learns: bool
    start: Callable[[int], tuple[float, ...]]
    evaluate: Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Any]]
    gradients: Callable[[Tensor, Any, Tensor, Tensor, Tensor | None], Gradients]
    zero_update: bool = True
    couples_outputs: bool = False

    def matrix(self, inner: Tensor, outer: Tensor, coefficients: Tensor | None = None) -> Tensor:
        """The matrix `(..., m, n)` alone."""
        return self.evaluate(inner, outer, coefficients)[0]


# The release's frozen coefficients are +0.1, -0.1, ...: the matrix takes both signs.
SCALE = 0.1
_SIGMOID_START = (1.0, 1.0, -0.5)
_RBF_START = (1.0, 1.0, -1.0)
_MIXED_START = (1.0, 0.0, 1.0)


def _sign(head: int) -> int:
    """Sign of the coefficient of a head."""
    return 1 if head % 2 == 0 else -1


def _scalars(coefficients: Tensor | None, start: Sequence[float]) -> Sequence[Scalar]:
    """The coefficients one by one, ready to be broadcast over `(..., m, n)`."""
    return start if coefficients is None else coefficients[..., None, None].unbind(-3)


def _sums(coefficients: Tensor | None, *matrices: Tensor) -> Tensor | None:
    """Gradient of the coefficients: one sum each; `None` where they are held."""
    if coefficients is None:
        return None
    return torch.stack([matrix.sum((-2, -1)) for matrix in matrices], -1)


def _head_scales(heads: int) -> tuple[float, ...]:
    """Coefficients of the distance kernel as released."""
    return tuple(SCALE * _sign(head) for head in range(heads))


def _piecewise_linear(
    inner: Tensor, outer: Tensor, coefficients: Tensor | None
) -> tuple[Tensor, list[Distances]]:
    r"""$w_{ji} = \sum_h \alpha_h \lVert b^h_j - a^h_i \rVert_2$; equal heads cancel as released."""
    pairs = zip(inner.unbind(-3), outer.unbind(-3), strict=True)
    each = [distances(a, b) for a, b in pairs]
    if coefficients is None:
        total = each[0][0].sub_(each[1][0])
        for head, (distance, _) in enumerate(each[2:]):
            total = total.add_(distance) if head % 2 == 0 else total.sub_(distance)
        # The gradients need no distance: what is not returned is free at once.
        return total.mul_(SCALE), [(total, inverse) for _, inverse in each]
    scales = _scalars(coefficients, ())
    total = each[0][0] * scales[0]
    for (distance, _), scale in zip(each[1:], scales[1:], strict=True):
        total.add_(distance * scale)
    return total, each


def _piecewise_linear_gradients(
    grad: Tensor, kept: list[Distances], inner: Tensor, outer: Tensor, coefficients: Tensor | None
) -> Gradients:
    """Gradients of factors and coefficients from the gradient `(..., m, n)` of the matrix."""
    grad_inner, grad_outer = torch.empty_like(inner), torch.empty_like(outer)
    scales = _scalars(coefficients, _head_scales(inner.shape[-3]))
    sums = None if coefficients is None else _sums(coefficients, *[grad * d for d, _ in kept])
    for head, scale in enumerate(scales):
        a, b = inner[..., head, :, :], outer[..., head, :, :]
        grad_a, grad_b = fold_differences(kept[head][1].mul_(grad), a, b)
        grad_inner[..., head, :, :], grad_outer[..., head, :, :] = grad_a * scale, grad_b * scale
    return grad_inner, grad_outer, sums


def _product(inner: Tensor, outer: Tensor) -> Tensor:
    r"""$\langle b_j, a_i \rangle$ of the only head."""
    return outer[..., 0, :, :] @ inner[..., 0, :, :].mT


def _fold_product(slope: Tensor, inner: Tensor, outer: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of both factors, where the matrix moves by `slope` times their product."""
    grad_inner = (outer[..., 0, :, :].mT @ slope).mT
    grad_outer = (inner[..., 0, :, :].mT @ slope.mT).mT
    return grad_inner.unsqueeze(-3), grad_outer.unsqueeze(-3)


def _linear(inner: Tensor, outer: Tensor, coefficients: Tensor | None) -> tuple[Tensor, None]:
    r"""$w_{ji} = \langle b_j, a_i \rangle$: LoRA's product."""
    return _product(inner, outer), None


def _linear_gradients(
    grad: Tensor, kept: None, inner: Tensor, outer: Tensor, coefficients: Tensor | None
) -> Gradients:
    """Gradients of both factors from the gradient `(..., m, n)` of the product."""
    return *_fold_product(grad, inner, outer), None


def _sigmoid(inner: Tensor, outer: Tensor, coefficients: Tensor | None) -> tuple[Tensor, Tensor]:
    r"""$w_{ji} = \alpha / (1 + \exp(-\beta \langle b_j, a_i \rangle)) + \gamma$."""
    alpha, beta, gamma = _scalars(coefficients, _SIGMOID_START)
    product = _product(inner, outer)
    return (product * beta).sigmoid_().mul_(alpha).add_(gamma), product


def _sigmoid_gradients(
    grad: Tensor, kept: Tensor, inner: Tensor, outer: Tensor, coefficients: Tensor | None
) -> Gradients:
    r"""Through $\sigma' = \sigma (1 - \sigma)$ to the product, and on as the linear kernel."""
    alpha, beta, _ = _scalars(coefficients, _SIGMOID_START)
    value = (kept * beta).sigmoid_()
    slope = (value * (1 - value)).mul_(grad).mul_(alpha)
    grad_inner, grad_outer = _fold_product(slope * beta, inner, outer)
    return grad_inner, grad_outer, _sums(coefficients, grad * value, slope * kept, grad)


def _rbf(inner: Tensor, outer: Tensor, coefficients: Tensor | None) -> tuple[Tensor, Tensor]:
    r"""$w_{ji} = \alpha \exp(-\beta \lVert b_j - a_i \rVert_2^2) + \gamma$."""
    alpha, beta, gamma = _scalars(coefficients, _RBF_START)
    squared = squared_distances(inner[..., 0, :, :], outer[..., 0, :, :])
    return (squared * -beta).exp_().mul_(alpha).add_(gamma), squared


def _rbf_gradients(
    grad: Tensor, kept: Tensor, inner: Tensor, outer: Tensor, coefficients: Tensor | None
) -> Gradients:
    r"""$dw = -2 \alpha \beta e^{-\beta d^2}\,(b_j - a_i)(db_j - da_i)$: no division, no NaN."""
    alpha, beta, _ = _scalars(coefficients, _RBF_START)
    a, b = inner[..., 0, :, :], outer[..., 0, :, :]
    pulled = (kept * -beta).exp_().mul_(grad)
    grad_a, grad_b = fold_differences(pulled * (-2 * alpha * beta), a, b)
    sums = _sums(coefficients, pulled, kept.mul_(pulled).mul_(-alpha), grad)
    return grad_a.unsqueeze(-3), grad_b.unsqueeze(-3), sums


def _mixed(
    inner: Tensor, outer: Tensor, coefficients: Tensor | None
) -> tuple[Tensor, tuple[Tensor, Tensor, list[Distances]]]:
    r"""$w_{ji} = D_{ji} + \alpha\,\mathrm{softmax}_j(D_{ji} / \gamma) + \beta$."""
    alpha, beta, gamma = _scalars(coefficients, _MIXED_START)
    distance, each = _piecewise_linear(inner, outer, None)
    share = (distance / gamma).softmax(-2)
    return torch.add(distance, share * alpha).add_(beta), (distance, share, each)


def _mixed_gradients(
    grad: Tensor,
    kept: tuple[Tensor, Tensor, list[Distances]],
    inner: Tensor,
    outer: Tensor,
    coefficients: Tensor | None,
) -> Gradients:
    """Through the softmax of every input to the distances, and on as the distance kernel."""
    alpha, _, gamma = _scalars(coefficients, _MIXED_START)
    distance, share, each = kept
    weighted = grad * share
    inside = (weighted - share * weighted.sum(-2, keepdim=True)).mul_(alpha).div_(gamma)
    sums = _sums(coefficients, weighted, grad, (inside * distance).div_(-gamma))
    grad_inner, grad_outer, _ = _piecewise_linear_gradients(
        inside.add_(grad), each, inner, outer, None
    )
    return grad_inner, grad_outer, sums


KERNELS: dict[str, Kernel] = {
    "piecewise_linear": Kernel(
        True, False, _head_scales, _piecewise_linear, _piecewise_linear_gradients
    ),
    "linear": Kernel(False, False, lambda heads: (), _linear, _linear_gradients),
    "sigmoid": Kernel(False, True, lambda heads: _SIGMOID_START, _sigmoid, _sigmoid_gradients),
    "rbf": Kernel(False, True, lambda heads: _RBF_START, _rbf, _rbf_gradients, zero_update=False),
    "mixed": Kernel(
        True,
        True,
        lambda heads: _MIXED_START,
        _mixed,
        _mixed_gradients,
        zero_update=False,
        couples_outputs=True,
    ),
}
