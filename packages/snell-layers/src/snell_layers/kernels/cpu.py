r"""Build and fold an update with compiled code on a CPU; the twin is `snell_layers.update`.

The entries have the twin's bits. Sums of gradients are added in another order, one that does not
depend on the number of threads.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from snell_layers.rule import SnellRule
from snell_layers.sparsify import removed_entries
from snell_layers.update import Factors

from .compile import library
from .piece import HEADS, POINTS, TYPES, Piece, shares, together
from .threshold import threshold_of

__all__ = ["build", "fold", "runs"]

GATES = {"released": 0, "paper": 1, "hard": 2, "none": 3}
PART = 16
"""Partial sums over rows take at most one such part of the matrix."""


def runs(factors: Factors, rule: SnellRule, *matrices: Tensor | None) -> bool:
    """Whether this update, and matrices of its size, can be handed to the compiled code."""
    inner = factors[0]
    plain = rule.kernel == "piecewise_linear" and inner.dtype in TYPES
    fits = inner.shape[1] <= HEADS and inner.shape[1] * inner.shape[3] <= POINTS
    given = [t for t in (*factors, *matrices) if t is not None]
    return (
        plain
        and fits
        and all(_is_here(t) and t.dtype == inner.dtype for t in given)
        and library() is not None
    )


def build(
    factors: Factors,
    rule: SnellRule,
    *,
    weight: Tensor | None = None,
    threshold: Tensor | None = None,
    hint: Tensor | None = None,
    scale: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """As `snell_layers.update.build`."""
    pieces = list(_pieces(factors))
    rows, columns = pieces[0].rows, pieces[0].columns
    if threshold is None:
        removed = removed_entries(rule.sparsity, rows * columns)
        near = [None] * len(pieces) if hint is None else hint.tolist()
        found = [threshold_of(p, removed, h) for p, h in zip(pieces, near, strict=True)]
        threshold = factors[0].new_tensor(found)
    matrix = factors[0].new_empty(len(pieces) * rows, columns)
    bases = [None] * len(pieces) if weight is None else weight.contiguous().split(rows)
    for piece, tau, base, out in zip(
        pieces, threshold.tolist(), bases, matrix.split(rows), strict=True
    ):
        settings = (tau, float(scale), _gate(rule), base, out)
        together(
            lambda _, *rows, call=piece.call, settings=settings: call("merge", *rows, *settings),
            shares(rows, rows * columns),
        )
    return matrix, threshold


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
    """As `snell_layers.update.fold`."""
    rows = factors[1].shape[-2]
    pieces = list(_pieces(factors))
    bases = [None] * len(pieces) if weight is None else weight.contiguous().split(rows)
    parts = [
        _fold_piece(piece, block, base, tau, scale, _gate(rule), replace)
        for piece, block, base, tau in zip(
            pieces, grad.split(rows), bases, threshold.tolist(), strict=True
        )
    ]
    inner, outer, scalars = (torch.stack(side) for side in zip(*parts, strict=True))
    return inner, outer, None if factors[2] is None else scalars


def _fold_piece(
    piece: Piece,
    grad: Tensor,
    weight: Tensor | None,
    tau: float,
    scale: float,
    gate: int,
    replace: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of one update, by parts of as many rows as their sums may be large."""
    step = min(piece.rows, PART * piece.heads * piece.dims)
    count = math.ceil(piece.rows / step)
    inner = piece.points.new_zeros(count, *piece.points.shape)
    scalars = piece.points.new_zeros(count, piece.heads)
    outer = torch.empty_like(piece.outer)

    def work(_: int, first: int, last: int) -> None:
        for part in range(first, last):
            rows = part * step, min((part + 1) * step, piece.rows)
            sums = inner[part], outer, scalars[part]
            settings = (tau, float(scale), gate, grad, *sums, int(replace), weight)
            piece.call("fold", *rows, *settings)

    together(work, shares(count, grad.numel()))
    return inner.sum(0)[..., : piece.columns].mT, outer, scalars.sum(0)


def _pieces(factors: Factors) -> Iterator[Piece]:
    """One update after the other."""
    inner, outer, coefficients = factors
    scales: Any = [None] * len(inner) if coefficients is None else coefficients
    for triple in zip(inner, outer, scales, strict=True):
        yield Piece(*triple)


def _gate(rule: SnellRule) -> int:
    """The number of the sparsifier in use."""
    return GATES["none" if rule.sparsity == 0 else rule.sparsifier]


def _is_here(tensor: Tensor) -> bool:
    """Whether a tensor has memory of its own on the CPU: no fake, traced or wrapped one."""
    return type(tensor) in (Tensor, torch.nn.Parameter) and tensor.device.type == "cpu"
