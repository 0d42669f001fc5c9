"""Where each matrix lies in the arrays that hold all of them.

Matrices of equal support size are neighbours, so one selection serves all of them as rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

import torch
from torch import Tensor

__all__ = ["Layout", "Run", "build_layout"]


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring members with equal supports.

    Attributes:
        start: First slot of the run.
        count: Number of members.
        k: Slots of each.
    """

    start: int
    count: int
    k: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Members in order of support size; `K` slots, one per support entry.

    Attributes:
        sizes: Support size of each member, not decreasing.
        starts: First slot of each member.
        bases: What is added to a flat position of each member before it is stored.
        runs: Neighbours of equal size.
        total: $K$, the sum of the sizes.
        index_dtype: Narrowest dtype of a stored position.
        key_dtype: Narrowest dtype of twice a place when all members are laid end to end.
        table: Shape (6, members), int64, on the device: size, first slot, base, where the member
            begins and ends when all members are laid end to end, and last slot.
    """

    sizes: tuple[int, ...]
    starts: tuple[int, ...]
    bases: tuple[int, ...]
    runs: tuple[Run, ...]
    total: int
    index_dtype: torch.dtype
    key_dtype: torch.dtype
    table: Tensor

    def members(self) -> Tensor:
        """Number of the member that owns each slot, shape `(K,)`."""
        return torch.repeat_interleave(self.table[0], output_size=self.total)

    def slices(self) -> list[slice]:
        """Slots of each member."""
        return [slice(a, a + k) for a, k in zip(self.starts, self.sizes, strict=True)]

    def rows(self, slots: Tensor, run: Run) -> Tensor:
        """Candidates of each member of a run, from shape `(2, K)`, as rows of `2 k`; a copy."""
        part = slots[:, run.start : run.start + run.count * run.k]
        return part.view(2, run.count, run.k).transpose(0, 1).reshape(run.count, -1)

    def by_member(self, slots: Tensor) -> Tensor:
        """Bring `(2, K)` into order of members: the `2 k` of each side by side; a copy."""
        each = [self.rows(slots, run).reshape(-1) for run in self.runs]
        return each[0] if len(each) == 1 else torch.cat(each)

    def first_halves(self, members: Tensor) -> Tensor:
        """Index of the first `k` of every member in an array that gives each of them `2 k`."""
        here = torch.arange(self.total, device=self.table.device)
        return here + self.table[1].index_select(0, members)


def build_layout(
    sizes: Sequence[int], numels: Sequence[int], bases: Sequence[int], device: torch.device
) -> Layout:
    """Lay members out in the order given.

    Args:
        sizes: Support sizes, not decreasing.
        numels: Entries of each weight.
        bases: What is added to each member's flat positions.
        device: Where the members live.

    Returns:
        The layout.
    """
    starts = [0, *accumulate(sizes)]
    begins = [0, *accumulate(numels)]
    runs, start = [], 0
    for k, equal in groupby(sizes):
        count = len(list(equal))
        runs.append(Run(start, count, k))
        start += count * k
    last = max(base + n for base, n in zip(bases, numels, strict=True))
    lasts = [stop - 1 for stop in starts[1:]]
    table = torch.tensor([[*sizes], starts[:-1], [*bases], begins[:-1], begins[1:], lasts])
    return Layout(
        tuple(sizes),
        tuple(starts[:-1]),
        tuple(bases),
        tuple(runs),
        starts[-1],
        _narrowest(last),
        _narrowest(2 * begins[-1]),
        table.to(device),
    )


def _narrowest(last: int) -> torch.dtype:
    """Integer dtype that holds numbers up to `last`."""
    return torch.int32 if last <= torch.iinfo(torch.int32).max else torch.int64
