r"""The linear map with a SNELL update: one autograd function, one GEMM, nothing $m \times n$ kept.

Forward merges the frozen weight and the update into one transient matrix. Saved for backward are
the input (or what it can be made from again), the factors and the threshold; backward builds the
matrix again, forms the weight gradient $G = dY^\top X$ once and folds it into the factors, in
closed form.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .kernels import build, fold, replaces
from .product import full_precision, split_product, times, weight_gradient
from .rebuild import Recipe, leave, recipe_of
from .rule import SnellRule

__all__ = ["snell_delta", "snell_linear"]


@torch.no_grad()
def snell_delta(
    inner: Tensor,
    outer: Tensor,
    rule: SnellRule,
    *,
    coefficients: Tensor | None = None,
    threshold: Tensor | None = None,
    hint: Tensor | None = None,
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
        hint: A threshold that may be close, `(pieces,)`: it is found faster then, with the same
            result.

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
    return build(_widen(inner, outer, coefficients), rule, threshold=threshold, hint=hint)


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
    hint: Tensor | None = None,
    samples: Tensor | None = None,
    scale: float = 1.0,
    again: bool = False,
) -> tuple[Tensor, Tensor]:
    r"""Apply a linear map with a SNELL update, differentiable in every tensor but the threshold.

    $$y = x\,(W + \Delta W)^\top + b, \qquad
      d\,outer,\; d\,inner \;\leftarrow\; g_w = G \circ \mathrm{slope}(w),\; G = dY^\top X$$

    Without `weight` the result is the branch $x\,\Delta W^\top$ alone, for a base layer whose
    weight must not be touched: a bf16 weight would swallow most of an update of 1e-4.

    Args:
        x: Input, `(..., n)`. If a module that `snell_layers.rebuild` watches made it, what it is
            made from is kept for backward instead.
        inner: Input side, `(pieces, heads, n, dims)`.
        outer: Output side, `(pieces, heads, m, dims)`.
        rule: Kernel, sparsifier and their numbers.
        weight: Frozen weight `(pieces * m, n)` to merge with, or `None` for the branch alone.
        bias: `(pieces * m,)`, only together with `weight`.
        coefficients: The kernel's scalars, `(pieces, count)`; `None` for those it starts from.
        threshold: `(pieces,)`; `None` finds the order statistic of these factors.
        hint: A threshold that may be close, `(pieces,)`, such as the last step's: it is found
            faster then, with the same result.
        samples: Indices along the first dimension of `x` that get the update, in any order, without
            repetition; the others get the plain weight, as if the branch were dropped. On the CPU,
            so that the device is not asked how many there are. `None` is all.
        scale: Factor on the update: 1 / (1 - p) where samples were dropped with probability p.
        again: Whether the output gets a recipe, so that what follows may compute it again in
            backward instead of keeping it; see `snell_layers.recompute`.

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
    split = () if samples is None else _both_halves(samples, x)
    recipe = recipe_of(x)
    call = _Call(rule, scale, recipe)
    made_of = () if recipe is None else recipe.tensors
    y, threshold = _SnellLinear.apply(
        x, weight, bias, inner, outer, coefficients, threshold, hint, call, *split, *made_of
    )
    if again and not split:
        given = (weight, bias, inner, outer, coefficients, threshold)
        tensors = tuple(t.detach() for t in given if t is not None)
        kept = made_of if recipe is not None else (x.detach(),)
        product = _Product(rule, scale, recipe, tuple(t is not None for t in given))
        leave(y, Recipe((*tensors, *kept), product))
    return y, threshold


@dataclass(frozen=True)
class _Product:
    """The forward once more, from its tensors without those that were `None`."""

    rule: SnellRule
    scale: float
    recipe: Recipe | None
    present: tuple[bool, ...]

    def __call__(self, *tensors: Tensor) -> Tensor:
        left = iter(tensors)
        given = [next(left) if there else None for there in self.present]
        weight, bias, *factors, threshold = given
        made_of = tuple(left)
        x = made_of[0] if self.recipe is None else self.recipe.make(*made_of)
        with full_precision(x):
            options: dict[str, Any] = {"weight": weight, "threshold": threshold}
            options |= {"scale": self.scale, "dtype": x.dtype}
            matrix, _ = build(_widen(*factors), self.rule, **options)
            return times(x, matrix.mT, bias)


@dataclass(frozen=True)
class _Call:
    """What a forward and its backward share beside tensors."""

    rule: SnellRule
    scale: float
    recipe: Recipe | None


def _widen(*factors: Tensor | None) -> Any:
    """Factors in float32 or wider: squares of 1e-3 do not fit half precision."""
    return tuple(
        f if f is None else f.to(torch.promote_types(f.dtype, torch.float32)) for f in factors
    )


def _both_halves(samples: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The samples and all others, on the device of `x`."""
    off = torch.ones(len(x), dtype=torch.bool, device=samples.device)
    off[samples] = False
    return samples.to(x.device), off.nonzero().flatten().to(x.device)


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
        hint: Tensor | None,
        call: _Call,
        *others: Tensor,
    ) -> tuple[Tensor, Tensor]:
        made_of = 0 if call.recipe is None else len(call.recipe.tensors)
        split, made_of = others[: len(others) - made_of], others[len(others) - made_of :]
        with full_precision(x):
            matrix, threshold = build(
                _widen(inner, outer, coefficients),
                call.rule,
                weight=weight,
                threshold=threshold,
                hint=hint,
                scale=call.scale,
                dtype=x.dtype,
            )
            if split:
                y = split_product(x, split, matrix.mT, None if weight is None else weight.mT)
                y = y if bias is None else y.add_(bias)
            else:
                y = times(x, matrix.mT, bias)
        needs_input = any(ctx.needs_input_grad[i] for i in (1, 3, 4, 5))
        kept = () if not needs_input else made_of if call.recipe is not None else (x,)
        ctx.save_for_backward(weight, inner, outer, coefficients, threshold, *split, *kept)
        ctx.call, ctx.splits, ctx.keeps = call, bool(split), bool(kept)
        ctx.mark_non_differentiable(threshold)
        return y, threshold

    @staticmethod
    @once_differentiable
    # pyrefly: ignore[bad-override]
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        weight, *factors, threshold, on, off, kept = _saved(ctx)
        need_x, need_weight, need_bias, *need_factors = ctx.needs_input_grad[:6]
        call: _Call = ctx.call
        grad_y: Tensor = grad_outputs[0]
        grad_x = grad_weight = grad_bias = matrix = None
        grad_factors: list[Tensor | None] = [None] * 3
        with full_precision(grad_y):
            wide = _widen(*factors)
            options: dict[str, Any] = {"weight": weight, "scale": call.scale}
            if kept is not None:
                x = kept[0] if call.recipe is None else call.recipe.make(*kept)
                seen = weight_gradient(grad_y, x, on)
                if need_weight:
                    grad_weight = seen if on is None else weight_gradient(grad_y, x)
                del x
                if any(need_factors):
                    again = need_x and not need_weight and replaces(seen, wide, call.rule, weight)
                    sums = fold(seen, wide, call.rule, threshold, replace=again, **options)
                    grad_factors = _narrow(sums, factors)
                    matrix = seen if again else None
                del seen
            if need_x:
                if matrix is None:
                    options |= {"threshold": threshold, "dtype": grad_y.dtype}
                    matrix, _ = build(wide, call.rule, **options)
                if on is None:
                    grad_x = times(grad_y, matrix)
                else:
                    grad_x = split_product(grad_y, (on, off), matrix, weight)
            if need_bias:
                grad_bias = grad_y.reshape(-1, grad_y.shape[-1]).sum(0)
        rest = len(ctx.needs_input_grad) - 6
        return grad_x, grad_weight, grad_bias, *grad_factors, *[None] * rest


def _saved(ctx: Any) -> tuple[Any, ...]:
    """Weight, factors, threshold, the two halves of the samples, and what was kept of the input."""
    saved = ctx.saved_tensors
    split = saved[5:7] if ctx.splits else (None, None)
    kept = saved[7 if ctx.splits else 5 :] if ctx.keeps else None
    return *saved[:5], *split, kept


def _narrow(gradients: Any, factors: list[Any]) -> list[Tensor | None]:
    """Gradients in the types of what they belong to."""
    pairs = zip(gradients, factors, strict=True)
    return [None if gradient is None else gradient.to(own.dtype) for gradient, own in pairs]
