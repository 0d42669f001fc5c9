r"""The k-th smallest magnitude of millions, exactly, without a sort.

A small sample brackets the answer; one pass counts what lies below the bracket and picks out what
lies inside it, about one entry in a hundred; the answer is an order statistic of those (Floyd and
Rivest). Whatever the bracket, the result is exact: if the rank falls outside, the next one is
tried, and the last one holds everything. Memory beside the input: one chunk, and the picked ones.

This is the way on a CPU. A GPU must not ask the host how much was picked, so there `topk` or the
kernels of `snell_layers.kernels` find the same number.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from .distance import can_be_asked

__all__ = ["SAMPLE", "from_the_nearer_end", "kth_magnitude", "rank_bracket"]

SMALL = 1 << 15
"""Below this many entries torch's own selection is as fast."""
CHUNK = 1 << 17
"""Entries looked at together: the temporaries stay in the cache."""
SAMPLE = 1 << 15
ROOM = 16
"""A chunk, and what is kept of a bracket by compiled code, is at most one such part."""
WIDTH = 2.0**-6
"""Half the relative width of a bracket around a hint."""
DEVIATIONS = 4.0
"""Half the width of a bracket from a sample, in standard deviations of the sample's rank."""

Bracket = tuple[Tensor, Tensor]


def kth_magnitude(values: Tensor, k: int, hint: Tensor | None = None) -> Tensor:
    """The `k`-th smallest of `|values|`, counted from 1.

    Args:
        values: Numbers `(count,)`.
        k: Rank, from 1 to `count`.
        hint: A number `()` that may be close.

    Returns:
        One of the magnitudes, `()`.

    Examples:
        >>> import torch
        >>> from snell_layers.select import kth_magnitude
        >>> kth_magnitude(torch.tensor([3.0, -1.0, 2.0, -5.0]), 3)
        tensor(3.)
    """
    if values.numel() >= SMALL and can_be_asked(values):
        for low, high in _brackets(values, k, hint):
            below, inside = _pick(values, low, high)
            if below < k <= below + inside.numel():
                return torch.kthvalue(inside, k - below).values
    if values.is_cuda:
        return from_the_nearer_end(values.abs(), k)
    return torch.kthvalue(values.abs(), k).values


def from_the_nearer_end(magnitudes: Tensor, k: int) -> Tensor:
    """The `k`-th smallest without a wait: the last of the smallest, or the first of the largest.

    On a GPU torch's `topk` uses the whole chip where its `kthvalue` uses one block of it.

    Args:
        magnitudes: Numbers `(count,)`; NaN counts as the largest.
        k: Rank, from 1 to `count`.

    Returns:
        One of them, `()`.

    Examples:
        >>> import torch
        >>> from snell_layers.select import from_the_nearer_end
        >>> from_the_nearer_end(torch.tensor([3.0, 1.0, 2.0, 5.0]), 3)
        tensor(3.)
    """
    upper = magnitudes.numel() - k + 1
    if k <= upper:
        return magnitudes.topk(k, largest=False, sorted=False).values.amax()
    largest = magnitudes.topk(upper, sorted=False).values
    unknown = largest.isnan()
    first = largest.masked_fill(unknown, math.inf).amin()
    return torch.where(unknown.all(), math.nan, first)


def _brackets(values: Tensor, k: int, hint: Tensor | None) -> Iterator[Bracket]:
    """Brackets that probably hold the answer, the narrowest first."""
    sample = _sample(values)
    share = k / values.numel()
    if hint is not None:
        low, high = hint.to(values) * (1 - WIDTH), hint.to(values) * (1 + WIDTH)
        below, upto = (sample < low).sum() / len(sample), (sample <= high).sum() / len(sample)
        slack = _slack(sample, share)
        if below + slack <= share <= upto - slack:
            yield low, high
    yield rank_bracket(sample, share)


def rank_bracket(sample: Tensor, share: float) -> Bracket:
    """Where the number with that share of all numbers at or below it lies, almost surely.

    Args:
        sample: Some of the magnitudes, `(count,)`.
        share: Between 0 and 1.

    Returns:
        A lower and an upper end, each `()`; zero and infinity where the sample says nothing.
    """
    slack = _slack(sample, share)
    low, high = (share - slack) * len(sample), (share + slack) * len(sample)
    zero, end = sample.new_tensor(0.0), sample.new_tensor(math.inf)
    return (
        torch.kthvalue(sample, math.floor(low)).values if low >= 1 else zero,
        torch.kthvalue(sample, math.ceil(high)).values if high <= len(sample) else end,
    )


def _slack(sample: Tensor, share: float) -> float:
    """Half the width of a bracket in shares of a sample."""
    return DEVIATIONS * math.sqrt(share * (1 - share) / len(sample)) + 1 / len(sample)


def _sample(values: Tensor) -> Tensor:
    """Magnitudes at equal distances; an odd stride does not fall into step with the columns."""
    return values[:: (values.numel() // SAMPLE) | 1].abs()


def _pick(values: Tensor, low: Tensor, high: Tensor) -> tuple[int, Tensor]:
    """How many magnitudes are below `low`, and those from `low` to `high`."""
    from . import kernels  # which need what is defined here

    if kernels.reads(values):
        below, inside = kernels.pick_values(values, low, high, values.numel() // ROOM)
        if inside is not None:
            return below, inside
    below, picked = 0, []
    for chunk in values.split(min(CHUNK, values.numel() // ROOM)):
        magnitude = chunk.abs()
        under = magnitude < low
        below += int(under.sum(dtype=torch.int32))
        inside = (magnitude <= high).logical_and_(under.logical_not_())
        picked.append(_gather(magnitude, inside))
    return below, torch.cat(picked)


def _gather(values: Tensor, mask: Tensor) -> Tensor:
    """`values[mask]`, for a mask that is nearly empty: eight flags are looked at as one number."""
    whole = values.numel() // 8 * 8
    groups = mask[:whole].view(torch.int64).nonzero().flatten()
    near, flags = (t[:whole].view(-1, 8).index_select(0, groups) for t in (values, mask))
    return torch.cat([near[flags], values[whole:][mask[whole:]]])
