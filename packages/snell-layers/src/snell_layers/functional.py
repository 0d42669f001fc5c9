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
    samples: Tensor | None = None,
    scale: float = 1.0,
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

        samples: Indices along the first dimension of `x` that get the update, in any order, without
            repetition; the others get the plain weight, as if the branch were dropped. On the CPU,
            so that the device is not asked how many there are. `None` is all.
        scale: Factor on the update: 1 / (1 - p) where samples were dropped with probability p.

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
    split = None if samples is None else _both_halves(samples, x)
    return _SnellLinear.apply(
        x, weight, bias, inner, outer, coefficients, threshold, rule, split, scale
    )


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


def _both_halves(samples: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The samples and all others, on the device of `x`."""
    off = torch.ones(len(x), dtype=torch.bool, device=samples.device)
    off[samples] = False
    return samples.to(x.device), off.nonzero().flatten().to(x.device)


def _split_product(x: Tensor, split: Any, update: Tensor, weight: Tensor | None) -> Tensor:
    """`x @ (weight + update)` for the samples of the first half, `x @ weight` for the second."""
    y = x.new_zeros(*x.shape[:-1], update.shape[-1])
    on, off = split
    merged = update if weight is None else weight + update
    y.index_copy_(0, on, _product(x.index_select(0, on), merged))
    if weight is not None:
        y.index_copy_(0, off, _product(x.index_select(0, off), weight))
    return y


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
        split: tuple[Tensor, Tensor] | None,
        scale: float,
    ) -> tuple[Tensor, Tensor]:
        with _full_precision(x):
            delta, threshold = snell_delta(
                inner, outer, rule, coefficients=coefficients, threshold=threshold
            )
            if scale != 1:
                delta = delta * scale
            if split is not None:
                y = _split_product(x, split, delta.mT, None if weight is None else weight.mT)
                y = y if weight is None or bias is None else y.add_(bias)
            elif weight is None:
                y = _product(x, delta.mT)
            else:
                y = F.linear(x, (weight + delta).to(x.dtype), bias)
        needs_input = any(ctx.needs_input_grad[i] for i in (1, 3, 4, 5))
        kept = x if needs_input else None
        ctx.save_for_backward(
            kept, weight, inner, outer, coefficients, threshold, *(split or (None, None))
        )
        ctx.rule, ctx.scale = rule, scale
        ctx.mark_non_differentiable(threshold)
        return y, threshold

    @staticmethod
    @once_differentiable
    # pyrefly: ignore[bad-override]
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        x, weight, *factors, threshold, on, off = ctx.saved_tensors
        need_x, need_weight, need_bias, *need_factors = ctx.needs_input_grad[:6]
        rule: SnellRule = ctx.rule
        grad_y: Tensor = grad_outputs[0]
        grad_x = grad_weight = grad_bias = None
        grad_factors: list[Tensor | None] = [None] * 3
        with _full_precision(grad_y):
            w = rule.matrix(*_widen(*factors))
            if need_x:
                delta = rule.gate.value(w, threshold).flatten(0, 1)
                delta = delta if ctx.scale == 1 else delta * ctx.scale
                if on is not None:
                    grad_x = _split_product(grad_y, (on, off), delta, weight)
                else:
                    grad_x = _product(grad_y, delta if weight is None else weight + delta)
            if need_weight:
                grad_weight = _weight_gradient(grad_y, x)
            if any(need_factors):
                if on is not None:
                    seen = _weight_gradient(grad_y.index_select(0, on), x.index_select(0, on))
                else:
                    seen = _weight_gradient(grad_y, x) if grad_weight is None else grad_weight
                seen = seen.to(w.dtype) if ctx.scale == 1 else seen.to(w.dtype) * ctx.scale
                grad_factors = _fold(
                    rule.gate.gradient(seen.view_as(w), w, threshold), factors, rule
                )
            if need_bias:
                grad_bias = grad_y.reshape(-1, grad_y.shape[-1]).sum(0)
        return grad_x, grad_weight, grad_bias, *grad_factors, None, None, None, None


def _weight_gradient(grad_y: Tensor, x: Tensor) -> Tensor:
    r"""$G = dY^\top X$."""
    return grad_y.reshape(-1, grad_y.shape[-1]).mT @ x.reshape(-1, x.shape[-1])


def _fold(grad_w: Tensor, factors: list[Any], rule: SnellRule) -> list[Tensor | None]:
    """Gradients of factors and coefficients, in their own types, from that of the matrix."""
    gradients = rule.similarity.gradients(grad_w, *_widen(*factors))
    pairs = zip(gradients, factors, strict=True)
    return [None if gradient is None else gradient.to(own.dtype) for gradient, own in pairs]
