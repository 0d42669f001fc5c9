"""The weights of all members of a pack, read and changed at stored positions.

If the weights lie in one storage, as `SO.sample_gradients` arranges, that storage is one long
vector and each access is one operation. Otherwise each weight is accessed by itself.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from so_optim.packed.layout import Layout
from so_optim.reading import add_entries, read_entries, write_entries

__all__ = ["Weights", "bases_of", "one_vector", "side_by_side"]


def side_by_side(weights: Sequence[Any]) -> None:
    """Move weights side by side into one storage per dtype and device, so one kernel writes all.

    Args:
        weights: Frozen or not; they keep their identity, shape and values.
    """
    kinds: dict[Any, list[Any]] = {}
    for weight in weights:
        if weight.is_contiguous():
            kinds.setdefault((weight.dtype, weight.device), []).append(weight)
    for same in kinds.values():
        flat = same[0].new_empty(sum(weight.numel() for weight in same))
        start = 0
        for weight in same:
            place = flat[start : start + weight.numel()].view_as(weight)
            place.copy_(weight.detach())
            weight.data = place
            start += weight.numel()


def one_vector(weights: Sequence[Tensor]) -> Tensor | None:
    """View the storage that all weights share.

    Args:
        weights: The weights, at least one.

    Returns:
        The whole storage as a vector, or None if they do not lie contiguously in one.
    """
    first = weights[0]
    pointer = first.untyped_storage().data_ptr()
    for weight in weights:
        plain = type(weight) in (Tensor, torch.nn.Parameter) and weight.is_contiguous()
        if not plain or weight.untyped_storage().data_ptr() != pointer:
            return None
    size = first.untyped_storage().nbytes() // first.element_size()
    return first.detach().as_strided((size,), (1,), 0)


def bases_of(weights: Sequence[Tensor], flat: Tensor | None) -> list[int]:
    """What is added to each weight's flat positions before they are stored.

    Args:
        weights: The weights.
        flat: What `one_vector` gave.

    Returns:
        Where each weight begins in `flat`; zeros if there is none.
    """
    return [int(weight.storage_offset()) if flat is not None else 0 for weight in weights]


class Weights:
    """Access to many weights at once.

    Args:
        weights: The weights, in the order of the layout.
        layout: Where each lies.
        flat: What `one_vector` gave.
    """

    def __init__(self, weights: Sequence[Tensor], layout: Layout, flat: Tensor | None) -> None:
        self.weights = weights
        self.layout = layout
        self.flat = flat

    def read(self, positions: Tensor) -> Tensor:
        """Gather at stored positions, shape `(K,)` or `(2, K)`."""
        if self.flat is not None:
            return self.flat.index_select(0, positions.view(-1)).view(positions.shape)
        each = [
            read_entries(weight, positions[..., part])
            for weight, part in zip(self.weights, self.layout.slices(), strict=True)
        ]
        return torch.cat(each, dim=-1)

    def add(self, positions: Tensor, move: Tensor) -> None:
        """Add a move, both shape `(2, K)`; positions may repeat where the move is -0.0."""
        if self.flat is not None:
            self.flat.index_add_(0, positions.view(-1), move.view(-1))
            self.tell_autograd()
            return
        where = self.layout.by_member(positions)
        what = self.layout.by_member(move)
        for weight, part in zip(self.weights, self.layout.slices(), strict=True):
            both = slice(2 * part.start, 2 * part.stop)
            add_entries(weight, where[both], what[both])

    def write(self, positions: Tensor, values: Tensor) -> None:
        """Set, both shape `(2, K)`; row 1 wins where both rows name the same position."""
        for row, value in zip(positions, values, strict=True):
            if self.flat is not None:
                self.flat.index_put_((row,), value)
                continue
            for weight, part in zip(self.weights, self.layout.slices(), strict=True):
                write_entries(weight, row[part], value[part])
        if self.flat is not None:
            self.tell_autograd()

    def tell_autograd(self) -> None:
        """Count the change: the vector has a version counter of its own."""
        torch.autograd.graph.increment_version(self.weights)
