"""What a step needs to know of a parameter, and how flat positions reach any layout."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "Member",
    "add_entries",
    "check_trainable",
    "describe",
    "read_entries",
    "write_entries",
]


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One parameter that takes part in a step.

    Attributes:
        number: Its number over all groups, in order.
        param: What the group holds: the weight, or a leaf as long as the support.
        weight: The weight that moves.
        group: Its group, with every setting.
        leaf: None, or what tells the model where to read the gradient.
    """

    number: int
    param: Tensor
    weight: Tensor
    group: dict[str, Any]
    leaf: Any = None


def check_trainable(member: Member) -> None:
    """Refuse sparse gradients and complex parameters.

    Args:
        member: A parameter with its gradient.

    Raises:
        ValueError: If SO cannot train it; the message names the parameter and the fix.
    """
    grad = member.param.grad
    if grad is not None and grad.layout != torch.strided:
        raise ValueError(
            f"the gradient of {describe(member)} has layout {grad.layout}: SO needs dense "
            "gradients, e.g. torch.nn.Embedding(..., sparse=False)"
        )
    if member.weight.is_complex():
        raise ValueError(
            f"{describe(member)} has dtype {member.weight.dtype}: SO trains real weights, pass "
            "torch.view_as_real(weight)"
        )


def describe(member: Member) -> str:
    """Name a parameter in a message.

    Args:
        member: The parameter.

    Returns:
        Its number, its name if the optimizer was given names, and its shape.
    """
    names = member.group.get("param_names")
    index = next(i for i, w in enumerate(member.group["params"]) if w is member.param)
    name = f"{names[index]}, " if names else ""
    return f"parameter {member.number} ({name}shape {tuple(member.weight.shape)})"


def read_entries(tensor: Tensor, positions: Tensor) -> Tensor:
    """Gather entries without copying the tensor, whatever its rank and strides.

    Args:
        tensor: Any shape.
        positions: Row-major flat positions, any shape.

    Returns:
        Shape of `positions`, the dtype of `tensor`.
    """
    if positions.ndim == 1 and tensor.is_contiguous():
        return tensor.view(-1).index_select(0, positions)
    view, index = _indexable(tensor, positions)
    return view[index]


def write_entries(tensor: Tensor, positions: Tensor, values: Tensor) -> None:
    """Set entries in place, whatever the tensor's rank and strides.

    Args:
        tensor: Any shape.
        positions: Distinct row-major flat positions, any shape.
        values: Same shape, rounded to the dtype of `tensor`.
    """
    view, index = _indexable(tensor, positions)
    view[index] = values.to(tensor.dtype)


def add_entries(tensor: Tensor, positions: Tensor, values: Tensor) -> None:
    """Add to entries in place, whatever the tensor's rank and strides.

    Args:
        tensor: Any shape.
        positions: Row-major flat positions, shape `(k,)`; one that occurs twice is added to twice.
        values: Shape `(k,)`, the dtype of `tensor`.
    """
    if tensor.is_contiguous():
        tensor.view(-1).index_add_(0, positions, values)
    else:
        tensor.index_put_(torch.unravel_index(positions, tensor.shape), values, accumulate=True)


def _indexable(tensor: Tensor, positions: Tensor) -> tuple[Tensor, Any]:
    """A view of `tensor` and the index that reaches `positions` in it."""
    if tensor.is_contiguous():
        return tensor.view(-1), positions
    return tensor, torch.unravel_index(positions, tensor.shape)
