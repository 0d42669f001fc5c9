r"""Add up what several deltas change in one tensor, in any order with the same bits.

Each entry becomes $b + \sum_i c_i (w_i - b)$, summed in float64 and rounded once to the dtype of
the weight. An entry that one delta alone changes, with $c_i = 1$, takes its bits, so nothing is
rounded there.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from so_optim.delta.match import check_content, check_layout, targets
from so_optim.delta.part import Part, bit_pattern, compare, digest, row_major

__all__ = ["check_scales", "merge"]


def check_scales(scales: Sequence[Any] | None, count: int) -> list[float]:
    """Read the factors of a stack.

    Args:
        scales: One finite number for each delta; None means 1.
        count: How many deltas there are.

    Returns:
        The factors.

    Raises:
        ValueError: If a factor is missing or not a finite number.
    """
    if scales is None:
        return [1.0] * count
    if len(scales) != count:
        raise ValueError(f"scales must be {count} numbers, one for each delta, but is {scales!r}")
    for scale in scales:
        if not (isinstance(scale, int | float) and math.isfinite(scale)):
            raise ValueError(f"scales must be finite numbers but has {scale!r}: pass e.g. 0.5")
    return [float(scale) for scale in scales]


def merge(
    deltas: Sequence[Iterable[Part]], scales: Sequence[float], base: Mapping[str, Tensor]
) -> list[Part]:
    """Merge deltas tensor by tensor.

    Args:
        deltas: The parts of each.
        scales: $c_i$ for each.
        base: The tensors of their base.

    Returns:
        The parts of the sum.

    Raises:
        ValueError: If the deltas have different bases, or `base` is not theirs.
    """
    found = _by_name(deltas, scales)
    check_layout([items[0][0] for items in found.values()], base, "base")
    return [_merge_tensor(items, base) for items in found.values()]


def _by_name(
    deltas: Sequence[Iterable[Part]], scales: Sequence[float]
) -> dict[str, list[tuple[Part, float]]]:
    """What each delta does to each tensor, once they are known to have one base."""
    found: dict[str, list[tuple[Part, float]]] = {}
    for number, (parts, scale) in enumerate(zip(deltas, scales, strict=True)):
        for part in parts:
            _check_same_base(number, part, found.get(part.name, []))
            found.setdefault(part.name, []).append((part, scale))
    for name, items in found.items():
        if items[0][0].new is None and len(items) < len(deltas):
            raise ValueError(f"deltas must share a base but not all know {name!r}: {_ADVICE}")
    return found


_ADVICE = "stack deltas that were made from the same weights"


def _check_same_base(number: int, part: Part, others: Iterable[tuple[Part, float]]) -> None:
    """Refuse a part that means another tensor, or other content, than those before it."""
    for other, _ in others:
        mine, theirs = (
            (p.names, p.dtype, p.shape, None if p.new is None else digest(p.new))
            for p in (part, other)
        )
        if mine != theirs or (part.digest and other.digest and part.digest != other.digest):
            raise ValueError(
                f"deltas[{number}] means another tensor by {part.name!r} than those before it "
                f"(names, dtype, shape, new content: {mine} and {theirs}; hash of the base: "
                f"{part.digest!r} and {other.digest!r}): {_ADVICE}"
            )


def _merge_tensor(items: Sequence[tuple[Part, float]], base: Mapping[str, Tensor]) -> Part:
    """The sum for one tensor."""
    touched = [(part, scale) for part, scale in items if part.indices.numel()]
    if not touched:
        return items[0][0]
    tensors = targets(items[0][0], base)
    for tensor in tensors:
        check_content(touched[0][0], tensor, applied=False, what="base")
    return _add_up(touched, tensors[0])


def _add_up(items: Sequence[tuple[Part, float]], base: Tensor) -> Part:
    """The part that turns the base into base plus scaled changes."""
    flat = row_major(base)
    where = torch.cat([part.indices.long() for part, _ in items]).unique()
    start = flat[where].view(base.dtype)
    total = torch.zeros_like(_wide(start))
    count = torch.zeros_like(where)
    lone = start.clone()
    # One fixed order, because rounding makes a sum of three depend on it.
    for part, scale in sorted(items, key=_content):
        at = torch.searchsorted(where, part.indices.long())
        new = (bit_pattern(start)[at] ^ part.flips).view(base.dtype)
        total[at] += _scaled(_wide(new) - _wide(start[at]), scale)
        count[at] += 1 if scale == 1 else 2
        lone[at] = new
    summed = _narrow(_wide(start) + total, base.dtype)
    changed = flat.clone()
    changed[where] = torch.where(count == 1, bit_pattern(lone), bit_pattern(summed))
    return compare(items[0][0].names, base, changed.view(base.dtype).view(base.shape))


def _content(item: tuple[Part, float]) -> tuple[str, str, float]:
    """A key that depends on what a part changes, not on where it stands."""
    part, scale = item
    return digest(part.indices), digest(part.flips), scale


def _wide(values: Tensor) -> Tensor:
    """Values in a dtype that differences fit in."""
    if values.is_complex():
        return values.to(torch.complex128)
    return values.to(torch.float64 if values.is_floating_point() else torch.int64)


def _scaled(difference: Tensor, scale: float) -> Tensor:
    """Difference times a factor, rounded if it counts something."""
    if difference.dtype != torch.int64 or scale == 1:
        return difference * (1 if scale == 1 else scale)
    return (difference * scale).round().to(torch.int64)


def _narrow(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Back to the dtype of the weight; a truth value holds if its sum is positive."""
    return values > 0 if dtype == torch.bool else values.to(dtype)
