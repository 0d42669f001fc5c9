r"""The threshold of an update from its factors alone, on a CPU: no $m \times n$ array is made.

One pass counts the magnitudes below a bracket and keeps those inside. The first bracket lies around
the last step's threshold; if the rank is not in it, a sample of magnitudes gives another; the last
one holds everything. So the result is exact, whatever the hint.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from snell_layers.select import SAMPLE, rank_bracket

from .piece import Piece, shares, together

__all__ = ["threshold_of"]

WIDTH = 2.0**-7
"""Half the relative width of the bracket around a hint."""
ROOM = 16
"""A bracket keeps at most one such part of the entries."""


def threshold_of(piece: Piece, removed: int, hint: float | None = None) -> float:
    """The `removed`-th smallest magnitude; zero if nothing is removed.

    Args:
        piece: Factors of the update.
        removed: Rank, counted from 1.
        hint: A number that may be close.

    Returns:
        One of the magnitudes; NaN if more than the rest are NaN.
    """
    if removed == 0:
        return 0.0
    entries = piece.rows * piece.columns
    for low, high in _brackets(piece, removed / entries, hint):
        below, inside = _pick(piece, low, high, entries // ROOM + 1)
        if below < removed <= below + len(inside):
            return torch.kthvalue(inside, removed - below).values.item()
    _, every = _pick(piece, 0.0, math.inf, entries)
    return math.nan if len(every) < removed else torch.kthvalue(every, removed).values.item()


def _brackets(piece: Piece, share: float, hint: float | None) -> Iterator[tuple[float, float]]:
    """Brackets that may hold the answer, the narrowest first."""
    if hint is not None and 0 < hint < math.inf:
        yield hint * (1 - WIDTH), hint * (1 + WIDTH)
    entries = piece.rows * piece.columns
    stride = (entries // SAMPLE) | 1  # odd: not in step with the columns
    sample = piece.points.new_empty(-(-entries // stride))
    piece.call("sample", stride, len(sample), sample)
    low, high = rank_bracket(sample, share)
    yield low.item(), high.item()


def _pick(piece: Piece, low: float, high: float, room: int) -> tuple[int, Tensor]:
    """How many magnitudes are below a bracket, and those inside it; none where room is short."""
    ranges = shares(piece.rows, piece.rows * piece.columns)
    share = -(-room // len(ranges))
    kept = [piece.points.new_empty(share + 1) for _ in ranges]
    found = torch.zeros(len(ranges), 2, dtype=torch.int64)

    def work(number: int, start: int, stop: int) -> None:
        piece.call("pick", start, stop, low, high, kept[number], share, found[number])

    together(work, ranges)
    below, counts = int(found[:, 0].sum()), found[:, 1].tolist()
    if any(count > share for count in counts):
        return below, kept[0][:0]
    return below, torch.cat([v[:count] for v, count in zip(kept, counts, strict=True)])
