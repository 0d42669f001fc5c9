r"""The linear map with a SNELL update: one autograd function, one GEMM, nothing $m \times n$ kept.

Forward merges the frozen weight and the update into one transient matrix. Saved for backward are
the input, the factors and the threshold; backward builds the update again and folds the weight
gradient $G = dY^\top X$ into the factors at once, in closed form.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .rule import SnellRule
from .sparsify import order_statistic

__all__ = ["snell_delta", "snell_linear"]


@torch.no_grad()
def snell_delta(
    inner: Tensor,
    outer: Tensor,
    rule: SnellRule,
    *,
    coefficients: Tensor | None = None,
    threshold: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""The update matrix of a pair of factors, with the threshold that shaped it.

    $$\Delta W = \mathrm{sparsify}_\tau(\kappa(inner, outer)), \qquad
      \tau = |w|_{(\lceil s \cdot mn \rceil)}$$

    Computed in float32 or wider, whatever the factors are stored in. It carries no gradient:
    `snell_linear` is the differentiable use.

    Args:
        inner: Input side, `(pieces, heads, n, dims)`.
        outer: Output side, `(pieces, heads, m, dims)`; pieces are row blocks, as in a fused qkv.
        rule: Kernel, sparsifier and their numbers.
        coefficients: The kernel's scalars, `(pieces, count)`; `None` for those it starts from.
        threshold: `(pieces,)`; `None` finds the order statistic of these factors.

    Returns:
        The update `(pieces * m, n)`, laid out like the weight of `nn.Linear`, and the thresholds
        `(pieces,)`.

    Examples:
        >>> import torch
        >>> from snell_layers import SnellRule, snell_delta
        >>> generator = torch.Generator().manual_seed(0)
        >>> inner = torch.randn(1, 2, 6, 4, generator=generator)
        >>> outer = torch.randn(1, 2, 5, 4, generator=generator)
        >>> delta, threshold = snell_delta(inner, outer, SnellRule(r=8, sparsity=0.9))
        >>> tuple(delta.shape), int(delta.count_nonzero())
        ((5, 6), 3)

    Reference:
        Equations 3 to 5 of arXiv 2411.01800, with the released rule as default.
    """
    w = rule.matrix(*_widen(inner, outer, coefficients))
    if threshold is None:
        threshold = order_statistic(w, rule.sparsity)
    return rule.gate.value(w, threshold).flatten(0, 1), threshold


def snell_linear(
    x: Tensor,
    inner: Tensor,
    outer: Tensor,
    rule: SnellRule,
    *,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    coefficients: Tensor | None = None,
    threshold: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Apply a linear map with a SNELL update, differentiable in every tensor but the threshold.

    $$y = x\,(W + \Delta W)^\top + b, \qquad
      d\,outer,\; d\,inner \;\leftarrow\; g_w = G \circ \mathrm{slope}(w),\; G = dY^\top X$$

    Without `weight` the result is the branch $x\,\Delta W^\top$ alone, for a base layer whose
    weight must not be touched: a bf16 weight would swallow most of an update of 1e-4.

    Args:
        x: Input, `(..., n)`.
        inner: Input side, `(pieces, heads, n, dims)`.
        outer: Output side, `(pieces, heads, m, dims)`.
        rule: Kernel, sparsifier and their numbers.
        weight: Frozen weight `(pieces * m, n)` to merge with, or `None` for the branch alone.
        bias: `(pieces * m,)`, only together with `weight`.
        coefficients: The kernel's scalars, `(pieces, count)`; `None` for those it starts from.
        threshold: `(pieces,)`; `None` finds the order statistic of these factors.

    Returns:
        The output `(..., pieces * m)` and the thresholds `(pieces,)` it was computed with.

    Examples:
        >>> import torch
        >>> from snell_layers import SnellRule, snell_linear
        >>> inner, outer = torch.rand(1, 2, 6, 4).requires_grad_(), torch.rand(1, 2, 5, 4)
        >>> y, threshold = snell_linear(
        ...     torch.rand(3, 6), inner, outer, SnellRule(r=8, sparsity=0.5)
        ... )
        >>> y.sum().backward()
        >>> tuple(y.shape), tuple(inner.grad.shape)
        ((3, 5), (1, 2, 6, 4))
    """
    return _SnellLinear.apply(x, weight, bias, inner, outer, coefficients, threshold, rule)


def _widen(*factors: Tensor | None) -> list[Any]:
    """Factors in float32 or wider: squares of 1e-3 do not fit half precision."""
    return [f if f is None else f.to(torch.promote_types(f.dtype, torch.float32)) for f in factors]


def _full_precision(x: Tensor) -> AbstractContextManager[object]:
    """Context in which autocast leaves these products alone; the layer has already chosen types."""
    device = x.device.type
    if not torch.amp.is_autocast_available(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)


def _product(x: Tensor, matrix: Tensor) -> Tensor:
    """`x @ matrix` in the type of `x`; for float16 the matrix is scaled by a power of two and back.

    The update starts near 1e-6, where float16 keeps four bits.
    """
    if x.dtype != torch.float16:
        return x @ matrix.to(x.dtype)
    exponent = torch.frexp(matrix.abs().amax()).exponent
    scaled = torch.ldexp(matrix, -exponent).to(x.dtype)
    return torch.ldexp((x @ scaled).float(), exponent).to(x.dtype)


class _SnellLinear(torch.autograd.Function):
    r"""$(x, W, b, inner, outer, c) \mapsto (x (W + \Delta W)^\top + b,\; \tau)$."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        inner: Tensor,
        outer: Tensor,
        coefficients: Tensor | None,
        threshold: Tensor | None,
        rule: SnellRule,
    ) -> tuple[Tensor, Tensor]:
        with _full_precision(x):
            delta, threshold = snell_delta(
                inner, outer, rule, coefficients=coefficients, threshold=threshold
            )
            if weight is None:
                y = _product(x, delta.mT)
            else:
                y = F.linear(x, (weight + delta).to(x.dtype), bias)
        needs_input = any(ctx.needs_input_grad[i] for i in (1, 3, 4, 5))
        kept = x if needs_input else None
        ctx.save_for_backward(kept, weight, inner, outer, coefficients, threshold)
        ctx.rule = rule
        ctx.mark_non_differentiable(threshold)
        return y, threshold

    @staticmethod
    @once_differentiable
    # pyrefly: ignore[bad-override]
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        x, weight, *factors, threshold = ctx.saved_tensors
        need_x, need_weight, need_bias, *need_factors = ctx.needs_input_grad[:6]
        rule: SnellRule = ctx.rule
        grad_y: Tensor = grad_outputs[0]
        rows = grad_y.reshape(-1, grad_y.shape[-1])
        grad_x = grad_weight = None
        grad_factors: list[Tensor | None] = [None] * 3
        with _full_precision(grad_y):
            w = rule.matrix(*_widen(*factors))
            if need_x:
                delta = rule.gate.value(w, threshold).flatten(0, 1)
                grad_x = _product(grad_y, delta if weight is None else weight + delta)
            if x is not None:
                grad_weight = rows.mT @ x.reshape(-1, x.shape[-1])
            if grad_weight is not None and any(need_factors):
                grad_w = rule.gate.gradient(grad_weight.to(w.dtype).view_as(w), w, threshold)
                grad_factors = _fold(grad_w, factors, rule)
            grad_bias = rows.sum(0) if need_bias else None
        if not need_weight:
            grad_weight = None
        return grad_x, grad_weight, grad_bias, *grad_factors, None, None


def _fold(grad_w: Tensor, factors: list[Any], rule: SnellRule) -> list[Tensor | None]:
    """Gradients of factors and coefficients, in their own types, from that of the matrix."""
    gradients = rule.similarity.gradients(grad_w, *_widen(*factors))
    pairs = zip(gradients, factors, strict=True)
    return [None if gradient is None else gradient.to(own.dtype) for gradient, own in pairs]
