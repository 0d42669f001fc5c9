"""The slots of one window, which is the life of a support, and how the next window opens.

Within a window every kept set is a subset of (kept at its start) + (its support), so those are the
only candidates. They get two rows of slots: row 0 for what was kept and is not in the support, row
1 for the support. A step then needs no merging and no searching; only opening a window does.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from so_optim.packed.layout import Layout
from so_optim.update import NOBODY

__all__ = ["Kept", "Slots", "compact", "new_slots", "open_window"]


@dataclass(slots=True)
class Slots:
    """Two rows of candidates; the buffers keep their addresses from window to window.

    Attributes:
        positions: Shape `(2, K)`, flat positions plus the member's base. Row 1 is sorted within
            each member. A slot of row 0 that nobody owns repeats a position of row 1, or holds
            one of its own.
        moments: Shape `(2, 2, K)`, first and second moments, 0 and -0.0 where nobody owns the slot.
        age: Shape `(2, K)`, steps since the entry entered; None unless bias is per entry.
        value: Shape `(2, K)`, the weight before it was rounded; None unless the weight is narrow.
    """

    positions: Tensor
    moments: Tensor
    age: Tensor | None = None
    value: Tensor | None = None

    def free(self) -> Tensor:
        """Whether nobody owns each slot, bool `(2, K)`."""
        return self.moments[1].signbit()


@dataclass(frozen=True, slots=True)
class Kept:
    """The kept sets in order of member and position; unowned slots come last in each member.

    Attributes:
        slot: Shape `(K,)`, which slot of the flattened two rows holds each.
        key: Shape `(K,)`, ascending: twice the place when members lie end to end, odd if unowned.
    """

    slot: Tensor
    key: Tensor


def new_slots(layout: Layout, dtype: torch.dtype, *, wide_values: bool) -> Slots:
    """Slots that nobody owns.

    Args:
        layout: Where the members lie.
        dtype: Dtype of the moments.
        wide_values: Whether weights are narrower than their moments.

    Returns:
        Fresh buffers.
    """
    base = layout.table[2].index_select(0, layout.members()).to(layout.index_dtype)
    moments = torch.zeros(2, 2, layout.total, dtype=dtype, device=layout.table.device)
    moments[1] = NOBODY
    value = torch.zeros_like(moments[0]) if wide_values else None
    return Slots(base.repeat(2, 1), moments, value=value)


def compact(slots: Slots, layout: Layout, members: Tensor) -> Kept:
    """Bring the kept entries of both rows into order.

    Args:
        slots: The candidates.
        layout: Where the members lie.
        members: `layout.members()`.

    Returns:
        Which slots hold them.
    """
    key = _keys(slots.positions, layout, members)
    unowned = (2 * layout.table[4] - 1).to(layout.key_dtype).index_select(0, members)
    ordered = torch.where(slots.free(), unowned, key).view(-1).sort()
    first = layout.first_halves(members)
    return Kept(ordered.indices.index_select(0, first), ordered.values.index_select(0, first))


def open_window(slots: Slots, layout: Layout, support: Tensor, weight: Tensor | None) -> None:
    """Make room for another support, in place.

    An entry that is kept and in the support moves its moments to row 1.

    Args:
        slots: The candidates of the last window.
        layout: Where the members lie.
        support: Shape `(K,)`, the next row 1.
        weight: Weights there, shape `(K,)`, if slots hold wide values.
    """
    members = layout.members()
    kept = compact(slots, layout, members)
    key = _keys(support, layout, members)
    at = torch.searchsorted(kept.key, key).clamp_(max=layout.total - 1)
    absent = kept.key.index_select(0, at) != key
    moved = torch.zeros_like(support, dtype=torch.int8)
    moved.index_add_(0, at, absent.logical_not().to(torch.int8))
    gone = moved.bool()

    def refill(buffer: Tensor, nothing: float | Tensor) -> None:
        old = buffer.view(-1).index_select(0, kept.slot)
        new = old.index_select(0, at)
        if isinstance(nothing, Tensor):
            buffer[1] = torch.where(absent, nothing.to(new.dtype), new)
            buffer[0] = old
        else:
            buffer[1] = new.masked_fill_(absent, nothing)
            buffer[0] = old.masked_fill_(gone, nothing)

    where = slots.positions.view(-1).index_select(0, kept.slot)
    refill(slots.moments[0], 0.0)
    refill(slots.moments[1], NOBODY)
    if slots.age is not None:
        refill(slots.age, 0)
    if slots.value is not None and weight is not None:
        refill(slots.value, weight)
    slots.positions[0] = torch.where(slots.free()[0], support, where)
    slots.positions[1] = support


def _keys(positions: Tensor, layout: Layout, members: Tensor) -> Tensor:
    """Twice the place of each position when members lie end to end."""
    _, _, base, begin, _, _ = layout.table
    wide = torch.promote_types(layout.index_dtype, layout.key_dtype)
    shift = (begin - base).to(wide).index_select(0, members)
    return (positions + shift).to(layout.key_dtype).mul_(2)
