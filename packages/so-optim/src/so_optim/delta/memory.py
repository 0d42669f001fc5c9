"""The memory of a model that a delta is written to.

Everything is checked before anything is written, so a refused model is left as it was.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from so_optim.delta.match import check_layout, plain_tensors, targets
from so_optim.delta.part import Part

__all__ = ["place", "writable"]


def writable(
    model: nn.Module | dict[str, Any], parts: Sequence[Part], *, fills: bool
) -> dict[str, Tensor]:
    """Find the memory of a model that is about to be changed.

    Args:
        model: A module, or a state dict.
        parts: The delta.
        fills: Whether tensors that the base lacks will be written too.

    Returns:
        Its tensors by name.

    Raises:
        ValueError: If the model does not have the layout of the base, or its memory cannot be
            written tensor by tensor.
    """
    if not isinstance(model, nn.Module | dict):
        raise ValueError(
            f"model must be a module or a state dict but is of type {type(model).__name__}"
        )
    tensors = plain_tensors(model)
    check_layout(parts, tensors, "model")
    if isinstance(model, nn.Module):
        again = plain_tensors(model)
        for part in parts:
            copied = any(
                tensors[n].data_ptr() != again[n].data_ptr() for n in part.names if n in tensors
            )
            missing = fills and not any(name in tensors for name in part.names)
            if copied or missing:
                raise ValueError(
                    f"model keeps no tensor {part.name!r} that can be filled in place: "
                    "apply to its state dict and load that"
                )
    _check_memory(parts, tensors)
    return tensors


def place(part: Part, tensors: Mapping[str, Tensor], model: Any) -> None:
    """Put a tensor that the base lacks into a model or state dict.

    Args:
        part: A part of a delta; nothing happens if the base has it.
        tensors: The tensors of the model.
        model: Where missing names are added if it is a state dict.
    """
    if part.new is None:
        return
    present = targets(part, tensors)
    for tensor in present:
        tensor.copy_(part.new)
    if isinstance(model, dict):
        device = next((tensor.device for tensor in tensors.values()), part.new.device)
        tensor = present[0] if present else part.new.to(device, copy=True)
        for name in part.names:
            model.setdefault(name, tensor)


def _check_memory(parts: Iterable[Part], tensors: Mapping[str, Tensor]) -> None:
    """Refuse memory that two tensors share, one of which is about to be written."""
    reached: dict[torch.device, tuple[int, bool, str]] = {}
    for start, stop, written, name, device in sorted(_memory(parts, tensors), key=itemgetter(0, 1)):
        end, other_written, other = reached.get(device, (0, False, ""))
        if start < end and (written or other_written):
            raise ValueError(
                f"model keeps {name!r} and {other!r} in the same memory, but the delta does not "
                "change them as one: give each a tensor of its own (clone one of them)"
            )
        if stop > end:
            reached[device] = (stop, written, name)


def _memory(
    parts: Iterable[Part], tensors: Mapping[str, Tensor]
) -> Iterator[tuple[int, int, bool, str, torch.device]]:
    """First and last byte of each tensor, and whether it is written."""
    for part in parts:
        for tensor in targets(part, tensors):
            steps = zip(tensor.stride(), tensor.shape, strict=True)
            entries = 1 + sum(stride * (size - 1) for stride, size in steps)
            if part.changed and entries < tensor.numel():
                raise ValueError(
                    f"model repeats entries of {part.name!r} in memory (it was expanded), so one "
                    "cannot change alone: clone it first"
                )
            if tensor.numel():
                start = tensor.data_ptr()
                stop = start + entries * tensor.itemsize
                yield start, stop, part.changed > 0, part.name, tensor.device
