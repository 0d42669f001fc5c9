r"""The update matrix, built and taken apart again one tile at a time: nothing else is $m \times n$.

`build` writes $W + \Delta W$ into one buffer, and finds the threshold in that same buffer first
where it is not known; `fold` turns the gradient of the matrix into those of factors and
coefficients. Both work on tiles that stay in the cache, so that beside the buffer (and beside the
gradient, which the caller made) only a few tiles exist.

Compiled kernels do the same with the same bits of $w$, hence the same survivors; see
`snell_layers.kernels`. Here is the way that runs everywhere, for every kernel and type.
"""

from typing import Any

import torch
from torch import Tensor

from .rule import SnellRule
from .sparsify import order_statistic

__all__ = ["Factors", "build", "fold"]

Factors = tuple[Tensor, Tensor, Tensor | None]
"""Inner `(pieces, heads, n, k)`, outer `(pieces, heads, m, k)`, coefficients `(pieces, count)`."""

TILE = 1 << 17
"""Entries of a tile: half a megabyte of float32."""
SHARE = 20
"""A tile is at most one such part of the matrix: the half dozen temporaries stay a fraction."""
LEAST = 1 << 14
"""Entries that a tile has at least: below that the calls cost more than the arithmetic."""

Tile = tuple[slice, slice]


def build(
    factors: Factors,
    rule: SnellRule,
    *,
    weight: Tensor | None = None,
    threshold: Tensor | None = None,
    hint: Tensor | None = None,
    scale: float = 1.0,
) -> tuple[Tensor, Tensor]:
    r"""Write $W + c\,\Delta W$, or $c\,\Delta W$ alone, into one new matrix.

    Args:
        factors: In float32 or wider.
        rule: Kernel, sparsifier and their numbers.
        weight: $W$, `(pieces * m, n)`; `None` for the update alone.
        threshold: $\tau$, `(pieces,)`; `None` finds it.
        hint: A threshold that may be close, `(pieces,)`.
        scale: $c$.

    Returns:
        The matrix `(pieces * m, n)` and the thresholds `(pieces,)`.
    """
    inner, outer, _ = factors
    if weight is not None and weight.dtype != inner.dtype:
        update, threshold = build(factors, rule, threshold=threshold, hint=hint, scale=scale)
        return weight + update, threshold
    pieces, rows, columns = len(inner), outer.shape[-2], inner.shape[-2]
    buffer = inner.new_empty(pieces * rows, columns)
    found = []
    for piece, (block, one) in enumerate(zip(buffer.split(rows), _each(factors), strict=True)):
        known = None if threshold is None else threshold[piece]
        if known is None:
            for tile in _tiles(rule, rows, columns):
                block[tile] = rule.matrix(*_cut(one, tile))
            near = None if hint is None else hint[piece]
            found.append(order_statistic(block, rule.sparsity, near))
        base = None if weight is None else weight[piece * rows : (piece + 1) * rows]
        tau = found[-1] if known is None else known
        for tile in _tiles(rule, rows, columns):
            w = block[tile] if known is None else rule.matrix(*_cut(one, tile))
            value = _value(w, rule, tau, scale)
            if known is not None or base is not None:
                _put(block[tile], value, None if base is None else base[tile])
    return buffer, torch.stack(found) if threshold is None else threshold


def fold(
    grad: Tensor,
    factors: Factors,
    rule: SnellRule,
    threshold: Tensor,
    *,
    weight: Tensor | None = None,
    scale: float = 1.0,
    replace: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None]:
    r"""Gradients of factors and coefficients from $G$, that of the matrix.

    Args:
        grad: $G = dY^\top X$, `(pieces * m, n)`.
        factors: In float32 or wider.
        rule: Kernel, sparsifier and their numbers.
        threshold: $\tau$, `(pieces,)`.
        weight: $W$ of `build`; only for `replace`.
        scale: $c$ of `build`.
        replace: Write what `build` gives over `grad`, which is no longer needed: the entries are
            computed once for both, and the matrix needs no memory of its own.

    Returns:
        Gradients of inner, outer and coefficients, in their shapes.
    """
    inner, outer, coefficients = factors
    rows, columns = outer.shape[-2], inner.shape[-2]
    sums: list[Any] = [None if f is None else torch.zeros_like(f) for f in factors]
    for piece, (block, one) in enumerate(zip(grad.split(rows), _each(factors), strict=True)):
        base = None if weight is None else weight[piece * rows : (piece + 1) * rows]
        for tile in _tiles(rule, rows, columns):
            near, far, scalars = _cut(one, tile)
            w, kept = rule.similarity.evaluate(near, far, scalars)
            slope, value = _slope(w, rule, threshold[piece], scale, with_value=replace)
            slope.mul_(block[tile])
            slope = slope if scale == 1 else slope.mul_(scale)
            parts = rule.similarity.gradients(slope, kept, near, far, scalars)
            sums[0][piece, :, tile[1]] += parts[0]
            sums[1][piece, :, tile[0]] += parts[1]
            if coefficients is not None:
                sums[2][piece] += parts[2]
            if value is not None:
                _put(block[tile], value, None if base is None else base[tile])
    return sums[0], sums[1], sums[2]


def _value(w: Tensor, rule: SnellRule, threshold: Tensor, scale: float) -> Tensor:
    """What entries become, in their place."""
    value = rule.gate.value_(w, threshold)
    return value if scale == 1 else value.mul_(scale)


def _slope(
    w: Tensor, rule: SnellRule, threshold: Tensor, scale: float, *, with_value: bool
) -> tuple[Tensor, Tensor | None]:
    """The factor on the gradient, in the place of the entries, and what these become."""
    gate = rule.gate
    if not with_value:
        return gate.slope_(w, threshold), None
    if not gate.is_product:
        value = _value(w.clone(), rule, threshold, scale)
        return gate.slope_(w, threshold), value
    slope = gate.slope_(w.clone(), threshold)
    value = w.mul_(slope)
    return slope, value if scale == 1 else value.mul_(scale)


def _put(target: Tensor, value: Tensor, base: Tensor | None) -> None:
    """Write a tile of the matrix."""
    if base is None:
        target.copy_(value)
    else:
        torch.add(base, value, out=target)


def _each(factors: Factors) -> list[Factors]:
    """The factors of one piece after the other."""
    inner, outer, coefficients = factors
    scalars: Any = [None] * len(inner) if coefficients is None else coefficients.unbind()
    return list(zip(inner.unbind(), outer.unbind(), scalars, strict=True))


def _cut(factors: Factors, tile: Tile) -> Factors:
    """The factors of one tile of one piece."""
    inner, outer, coefficients = factors
    return inner[:, tile[1]], outer[:, tile[0]], coefficients


def _tiles(rule: SnellRule, rows: int, columns: int) -> list[Tile]:
    """Tiles of one update: rows, or columns where the kernel looks at all outputs together."""
    everything = slice(None)
    if torch.compiler.is_compiling():  # the compiler makes its own tiles
        return [(everything, everything)]
    coupled = rule.similarity.couples_outputs
    along, across = (columns, rows) if coupled else (rows, columns)
    step = max(1, max(LEAST, min(TILE, rows * columns // SHARE)) // across)
    parts = [slice(start, min(start + step, along)) for start in range(0, along, step)]
    return [(everything, part) if coupled else (part, everything) for part in parts]
