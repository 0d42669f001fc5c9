"""A compact leaf: the trainable stand-in of a frozen weight, as long as its support."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from so_optim.sampled.sddmm import accumulator

__all__ = ["LEAF", "Leaf", "check_own"]

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
        self.values = nn.Parameter(
            torch.zeros(len(positions), dtype=accumulator(weight.dtype), device=weight.device)
        )
        self.set_support(positions)

    @property
    def weight(self) -> Any:
        """The frozen weight, as its module holds it now."""
        module, name = self.owners[0]
        return module._parameters[name]

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


def check_own(groups: Sequence[dict[str, Any]], leaves: Mapping[Tensor, Leaf]) -> None:
    """Refuse weights whose gradient another optimizer reads, or that somebody thawed.

    Args:
        groups: Parameter groups of an optimizer.
        leaves: Its own leaves.

    Raises:
        ValueError: If a gradient would go to the wrong place, silently.
    """
    for number, param in enumerate(param for group in groups for param in group["params"]):
        if "_so_sampled" in param.__dict__:
            raise ValueError(
                f"parameter {number} of shape {tuple(param.shape)} is sampled by another "
                "optimizer: give each weight to one optimizer, or call undo() on what its "
                "sample_gradients returned"
            )
        if param in leaves and leaves[param].weight.requires_grad:
            raise ValueError(
                f"the weight of parameter {number}, shape {tuple(leaves[param].weight.shape)}, "
                "requires a gradient again while it is sampled: freeze it with "
                "requires_grad_(False), or call undo() to train it densely"
            )
