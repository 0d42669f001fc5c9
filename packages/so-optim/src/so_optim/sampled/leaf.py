"""A compact leaf: the trainable stand-in of a frozen weight, as long as its support."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from so_optim.sampled.sddmm import accumulator

__all__ = ["LEAF", "Leaf", "check_own", "check_whole", "is_sharded", "refuse_sharded", "widen"]

LEAF = "_at_support"
"""What is appended to a parameter's name for the name of its leaf."""


class Leaf:
    r"""One sampled weight: where it lives, its support, and the leaf its gradient goes to.

    The layer's weight is $W + \mathrm{scatter}_S(z)$ with the leaf $z = 0$, always. Only $\nabla z$
    matters: it is $(\nabla W)_S$.

    Args:
        owners: Modules that use the weight, with its name there.
        positions: Its support, shape `(k,)`, ascending row-major flat positions.
    """

    def __init__(self, owners: list[tuple[nn.Module, str]], positions: Tensor) -> None:
        self.owners = owners
        self.path = ""  # what the last forward pass kept, in words
        weight = self.weight
        self.width = weight.numel() // max(1, weight.shape[0]) if weight.dim() else 1
        dtype = torch.int32 if weight.numel() < 2**31 else torch.int64
        self.rows = torch.empty(len(positions), dtype=dtype, device=weight.device)
        self.cols = torch.empty_like(self.rows)
        values: Any = nn.Parameter(
            torch.zeros(len(positions), dtype=accumulator(weight.dtype), device=weight.device)
        )
        values._so_compact = True
        self.values = values
        self.set_support(positions)

    @property
    def weight(self) -> Any:
        """The frozen weight, as its module holds it now."""
        module, name = self.owners[0]
        return module._parameters[name]

    def is_intact(self) -> bool:
        """Whether the one module that uses the weight still holds it frozen, and the leaf."""
        ((module, name), *others) = self.owners
        parameters = module._parameters
        weight: Any = parameters.get(name)
        own = parameters.get(name + LEAF) is self.values and type(self.values) is nn.Parameter
        return own and not others and weight is not None and not weight.requires_grad

    def set_support(self, positions: Tensor) -> None:
        """Read the gradient somewhere else from the next forward pass on.

        Args:
            positions: Shape `(k,)`, ascending row-major flat positions.
        """
        self.rows.copy_(torch.div(positions, self.width, rounding_mode="floor"))
        self.cols.copy_(positions % self.width)

    def positions(self) -> Tensor:
        """Row-major flat positions of the support, shape `(k,)`, int64."""
        return self.rows.long() * self.width + self.cols

    def on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Rows and columns of the support on a device; they follow a model that was moved."""
        if self.rows.device != device:
            self.rows, self.cols = self.rows.to(device), self.cols.to(device)
        return self.rows, self.cols


def widen(values: Tensor) -> None:
    """Make a leaf as wide again as sums over tokens are, after a model was cast.

    Args:
        values: A leaf, changed in place.
    """
    grad, dtype = values.grad, accumulator(values.dtype)
    if values.dtype != dtype:
        values.grad = None
        values.data = values.data.to(dtype)
        values.grad = None if grad is None else grad.to(dtype)


def check_own(groups: Sequence[dict[str, Any]], leaves: Mapping[Tensor, Leaf]) -> None:
    """Refuse parameters whose gradient would go to the wrong place, silently.

    Args:
        groups: Parameter groups of an optimizer.
        leaves: Its own leaves.

    Raises:
        ValueError: If a parameter is sharded or another optimizer's, or its leaf is not in the
            model any more, or its weight was thawed or untied.
    """
    for number, param in enumerate(param for group in groups for param in group["params"]):
        leaf = leaves.get(param) if leaves else None
        if leaf is not None and leaf.is_intact():  # the usual case, in every step
            continue
        if is_sharded(param):
            refuse_sharded(param, _called(groups, number))
        if "_so_sampled" in param.__dict__:
            raise ValueError(
                f"{_called(groups, number)} is sampled by another optimizer: give each weight to "
                "one optimizer, or call undo() on what its sample_gradients returned"
            )
        if leaf is not None:
            _check_leaf(leaf, groups, number)
        elif "_so_compact" in param.__dict__:
            raise ValueError(
                f"{_called(groups, number)} is the compact leaf of a weight that another optimizer "
                "trains: give each to one optimizer, or undo() what its sample_gradients returned"
            )


def is_sharded(tensor: Tensor) -> bool:
    """Tell whether each process holds a part of a tensor only.

    Args:
        tensor: A parameter.

    Returns:
        True for a `DTensor`, whose module takes long to import.
    """
    return hasattr(type(tensor), "placements")


def refuse_sharded(parameter: Tensor, called: str) -> None:
    """Refuse a parameter that is sharded.

    Args:
        parameter: Any parameter.
        called: Its name in the message.

    Raises:
        ValueError: If it is.
    """
    if is_sharded(parameter):
        raise ValueError(f"{called} is a {type(parameter).__name__}: {_SHARDED}")


_SHARDED = (
    "a support is positions in the whole weight, which no process holds. Sample the gradients of "
    "the plain model first, then shard the rest of it, with SO's weights and their compact leaves "
    "as ignored_params of fully_shard (docs/methods/so.md has the recipe)"
)


def check_whole(module: nn.Module, name: str) -> None:
    """Refuse a leaf that was sharded after its weight was sampled.

    Args:
        module: Holds the leaf.
        name: Of the weight in it.

    Raises:
        ValueError: If it was.
    """
    values: Any = module._parameters.get(name + LEAF)
    if values is None or is_sharded(values):
        owner = f"{type(module).__name__}({module.extra_repr()})"
        raise ValueError(f"the compact leaf of {name!r} in {owner} was sharded: {_SHARDED}")


def _check_leaf(leaf: Leaf, groups: Sequence[dict[str, Any]], number: int) -> None:
    """Refuse a leaf that its model lost, or whose weight somebody thawed or untied."""
    module, name = leaf.owners[0]
    check_whole(module, name)
    if module._parameters[name + LEAF] is not leaf.values:
        raise ValueError(
            f"the compact leaf of {_called(groups, number)} is not in the model any more, where "
            f"{name + LEAF!r} was replaced: change parameters in place, or call undo() before"
        )
    weight = leaf.weight
    if weight.requires_grad:
        raise ValueError(
            f"the weight of {_called(groups, number, weight)} requires a gradient again while it "
            "is sampled: freeze it with requires_grad_(False), or call undo() to train it densely"
        )
    if any(module._parameters[name] is not weight for module, name in leaf.owners):
        raise ValueError(
            f"the weight of {_called(groups, number, weight)} was shared by {len(leaf.owners)} "
            "modules when sampling began and is not any more: tie it again after "
            "load_state_dict(assign=True), or call undo() before"
        )


def _called(groups: Sequence[dict[str, Any]], number: int, weight: Tensor | None = None) -> str:
    """Number of a parameter, its name if the optimizer was given names, and its weight's shape."""
    params = [param for group in groups for param in group["params"]]
    names = [name for group in groups for name in group.get("param_names", [])]
    name = f"{names[number]}, " if names else ""
    shape = tuple((params[number] if weight is None else weight).shape)
    return f"parameter {number} ({name}shape {shape})"
