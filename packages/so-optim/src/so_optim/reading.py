"""What a step reads before it changes anything, and how flat positions reach any layout."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "Reading",
    "Support",
    "check_readable",
    "describe",
    "nonfinite",
    "read_entries",
    "write_entries",
]


@dataclass(frozen=True, slots=True)
class Support:
    """Where a weight is read in this step.

    Attributes:
        positions: Shape `(k,)`, int64, sorted row-major flat positions.
        age: Steps served before this one.
        draws: Supports drawn so far, this one included.
    """

    positions: Tensor
    age: int
    draws: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What one step needs to know of one parameter.

    Attributes:
        number: Number of the parameter over all groups, in order.
        weight: The parameter.
        group: Its group, with every setting.
        support: Its support, or None if it is trained densely.
        grad: Gradient at the support, shape `(k,)`, or the whole gradient.
    """

    number: int
    weight: Tensor
    group: dict[str, Any]
    support: Support | None
    grad: Tensor


def check_readable(reading: Reading) -> None:
    """Refuse sparse gradients and complex parameters.

    Args:
        reading: One parameter with its whole gradient.

    Raises:
        ValueError: If SO cannot train it; the message names the parameter and the fix.
    """
    if reading.grad.layout != torch.strided:
        raise ValueError(
            f"the gradient of {describe(reading)} has layout {reading.grad.layout}: SO needs dense "
            "gradients, e.g. torch.nn.Embedding(..., sparse=False)"
        )
    if reading.weight.is_complex():
        raise ValueError(
            f"{describe(reading)} has dtype {reading.weight.dtype}: SO trains real weights, pass "
            "torch.view_as_real(weight)"
        )


def nonfinite(readings: list[Reading]) -> list[Reading]:
    """Return the readings with a NaN or infinite gradient; the host waits once per device.

    Args:
        readings: All readings of a step. Entries outside a support were not read and do not count.

    Returns:
        The bad ones, normally none.
    """
    bad = []
    for device in {reading.grad.device for reading in readings}:
        here = [reading for reading in readings if reading.grad.device == device]
        finite = torch.stack([reading.grad.isfinite().all() for reading in here]).tolist()
        bad += [reading for reading, ok in zip(here, finite, strict=True) if not ok]
    return bad


def describe(reading: Reading) -> str:
    """Name a parameter in a message.

    Args:
        reading: The parameter.

    Returns:
        Its number, its name if the optimizer was given names, and its shape.
    """
    names = reading.group.get("param_names")
    index = next(i for i, w in enumerate(reading.group["params"]) if w is reading.weight)
    name = f"{names[index]}, " if names else ""
    return f"parameter {reading.number} ({name}shape {tuple(reading.weight.shape)})"


def read_entries(tensor: Tensor, positions: Tensor) -> Tensor:
    """Gather entries without copying the tensor, whatever its rank and strides.

    Args:
        tensor: Any shape.
        positions: Row-major flat positions, shape `(k,)`.

    Returns:
        Shape `(k,)`, the dtype of `tensor`.
    """
    view, index = _indexable(tensor, positions)
    return view[index]


def write_entries(tensor: Tensor, positions: Tensor, values: Tensor) -> None:
    """Set entries in place, whatever the tensor's rank and strides.

    Args:
        tensor: Any shape.
        positions: Distinct row-major flat positions, shape `(k,)`.
        values: Shape `(k,)`, rounded to the dtype of `tensor`.
    """
    view, index = _indexable(tensor, positions)
    view[index] = values.to(tensor.dtype)


def _indexable(tensor: Tensor, positions: Tensor) -> tuple[Tensor, Any]:
    """A view of `tensor` and the index that reaches `positions` in it."""
    if tensor.is_contiguous():
        return tensor.view(-1), positions
    return tensor, torch.unravel_index(positions, tensor.shape)
