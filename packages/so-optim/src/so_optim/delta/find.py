"""Find what changed between two sets of weights, whichever way each of them ties its tensors."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from so_optim.delta.file import StoredTensors
from so_optim.delta.match import plain_tensors, tied_names
from so_optim.delta.part import Part, bit_pattern, compare

__all__ = ["Weights", "find_changes", "read_weights"]

Weights = nn.Module | Mapping[str, Any] | str | os.PathLike[str]


def read_weights(source: Weights, argument: str) -> Mapping[str, Tensor]:
    """Read tensors from wherever they are.

    Args:
        source: A model, a state dict, or the path of a safetensors file.
        argument: What the caller calls it.

    Returns:
        Tensors by name; those of a file are read one by one.

    Raises:
        ValueError: If it is something else.
    """
    if isinstance(source, str | os.PathLike):
        return StoredTensors(source)
    if isinstance(source, nn.Module | Mapping):
        return plain_tensors(source)
    raise ValueError(
        f"{argument} must be a model, a state dict or the path of a safetensors file but is of "
        f"type {type(source).__name__}"
    )


def find_changes(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> Iterator[Part]:
    """Compare two sets of weights.

    Args:
        before: The base.
        after: The new weights.

    Yields:
        A part for each tensor of the new weights; tied tensors make one if the base has them equal.

    Raises:
        ValueError: If a tensor of the base is missing or has another shape or dtype.
    """
    also = {name: names for names in tied_names(before) for name in names}
    for name in before:
        if not any(other in after for other in also[name]):
            raise ValueError(
                f"new lacks tensor {name!r}, which base has: a delta cannot remove tensors, so "
                "leave it out of base too"
            )
    dropped = {name: [n for n in names if n not in after] for name, names in also.items()}
    for names in tied_names(after):
        yield from _compare_tied(names, before, after[names[0]], dropped)


def _compare_tied(
    names: list[str], before: Mapping[str, Tensor], new: Tensor, dropped: Mapping[str, list[str]]
) -> Iterator[Part]:
    """Parts of one tensor of the new weights, which may have been several in the base."""
    known = [name for name in names if name in before]
    if not known:
        whole = bit_pattern(new).cpu().clone(memory_format=torch.contiguous_format).view(new.dtype)
        yield Part(tuple(names), new.dtype, tuple(new.shape), new=whole)
        return
    for name in known:
        _check_same_kind(name, before[name], new)
    first = before[known[0]]
    others = (name for name in known[1:] if compare((name,), first, before[name]).changed == 0)
    equal = [known[0], *others]
    mine = [name for name in names if name in equal or name not in before]
    yield compare((*mine, *dropped[known[0]]), first, new)
    for name in known:
        if name not in equal:
            yield compare((name,), before[name], new)


def _check_same_kind(name: str, base: Tensor, new: Tensor) -> None:
    """Refuse another shape or dtype."""
    if base.shape != new.shape:
        raise ValueError(
            f"new has shape {tuple(new.shape)} in {name!r} but base {tuple(base.shape)}: a delta "
            "cannot reshape tensors, so compare weights of the same architecture"
        )
    if base.dtype != new.dtype:
        raise ValueError(
            f"new has dtype {new.dtype} in {name!r} but base {base.dtype}: cast base to "
            f"{new.dtype} first, as it was when training started"
        )
