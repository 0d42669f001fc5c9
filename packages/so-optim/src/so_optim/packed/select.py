"""Which entries survive: the `k` most important of every matrix, for all matrices at once.

Nothing here depends on the values: shapes are static and the host never waits, ties included.
"""

import torch
from torch import Tensor

from so_optim.packed.layout import Layout

__all__ = ["keep_largest"]

MANY_SIZES = 6  # different support sizes; from here on one sort is fewer operations


def keep_largest(score: Tensor, free: Tensor, layout: Layout) -> Tensor:
    r"""Keep the `k` largest scores of every member.

    Of equal scores those in row 0 (kept before, no gradient in this step) go first, then the lower
    position. With $\tau$ the `k`-th largest score of a member, everything above $\tau$ survives,
    and as many of those equal to $\tau$ as there is room for, counted by a running sum.

    Args:
        score: Shape `(2, K)`, at least 0 and not NaN.
        free: Shape `(K,)`, bool: slots of row 0 that nobody owns; their score is 0.
        layout: Where the members lie.

    Returns:
        Shape `(2, K)`, bool: `k` survivors of every member.
    """
    members = layout.members()
    # On CUDA kthvalue refuses to be deterministic, for the sake of the index that is not used here.
    refuses = score.is_cuda and torch.are_deterministic_algorithms_enabled()
    if refuses or len(layout.runs) > MANY_SIZES:
        return _by_sorting(score, free, layout, members)
    tau = _thresholds(score, layout).index_select(0, members)
    above, equal = score > tau, score == tau
    equal[0].logical_and_(free.logical_not())
    counts = torch.stack([above, equal]).cumsum(-1, dtype=torch.int32)
    room = _room(counts, layout).index_select(1, members)
    return above.logical_or_(equal.logical_and_(counts[1] <= room))


def _thresholds(score: Tensor, layout: Layout) -> Tensor:
    """The `k`-th largest score of each member."""
    each = [layout.rows(score, run).kthvalue(run.k + 1).values for run in layout.runs]
    return each[0] if len(each) == 1 else torch.cat(each)


def _room(counts: Tensor, layout: Layout) -> Tensor:
    r"""Up to which running count of equals each row of each member keeps them, `(2, members)`.

    With $A_i$, $E_i$ the running counts of row $i$ at the end of a member and $A_i'$, $E_i'$ at the
    end of the one before, row 0 has room up to $k - (A - A') + E_0'$, where $A = A_0 + A_1$. Row 1
    has what row 0 leaves: up to $k - (A - A') - (E_0 - E_0') + E_1'$.
    """
    at_end = counts.view(4, -1).index_select(1, layout.table[5]).cumsum(0)
    room = layout.table[0] - at_end[1:3]
    room[:, 1:].add_(at_end[2:4, :-1])
    return room


def _by_sorting(score: Tensor, free: Tensor, layout: Layout, members: Tensor) -> Tensor:
    """The same by two stable sorts: by score, then by member."""
    score[0].sub_(free.to(score.dtype))
    order = score.view(-1).argsort(descending=True, stable=True)
    owner = members.repeat(2).index_select(0, order)
    order = order.index_select(0, owner.argsort(stable=True))
    chosen = order.index_select(0, layout.first_halves(members))
    keep = torch.zeros_like(score, dtype=torch.bool)
    keep.view(-1).index_fill_(0, chosen, True)
    return keep
