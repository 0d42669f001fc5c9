"""What the forward keeps for the backward, in bytes and in activations of the model's width."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from fewshot_bench.speed.variants import loss_of
from fewshot_bench.speed.workload import Workload

__all__ = ["Saved", "measure_saved", "saved_bytes"]


@dataclass(frozen=True)
class Saved:
    """Distinct storages that autograd keeps, parameters and buffers left out.

    Args:
        bytes: All of them.
        block_bytes: Those kept first inside a transformer block.
        unit_bytes: Bytes of all blocks' inputs together: one unit in every block.
    """

    bytes: int
    block_bytes: int
    unit_bytes: int

    @property
    def units(self) -> float:
        """Activations of width d that a block keeps, on average."""
        return self.block_bytes / self.unit_bytes


class _Watch:
    """Notes every storage that is saved, and whether that was inside a block."""

    def __init__(self, model: nn.Module) -> None:
        own = [*model.parameters(), *model.buffers()]
        self.known = {tensor.untyped_storage()._cdata for tensor in own}
        self.kept: list[torch.UntypedStorage] = []  # alive, so that no address is used twice
        self.inside = False
        self.bytes = self.block_bytes = self.unit_bytes = 0

    def pack(self, tensor: Tensor) -> Tensor:
        """Note a saved tensor, and save it as it is."""
        if tensor.layout is torch.strided:
            storage = tensor.untyped_storage()
            if storage._cdata not in self.known:
                self.known.add(storage._cdata)
                self.kept.append(storage)
                self.bytes += storage.nbytes()
                self.block_bytes += storage.nbytes() * self.inside
        return tensor

    def enter(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Note that a block begins, and the size of what it is given."""
        self.inside = True
        self.unit_bytes += inputs[0].numel() * inputs[0].element_size()

    def leave(self, module: nn.Module, inputs: object, output: object) -> None:
        """Note that a block has ended."""
        self.inside = False


def measure_saved(workload: Workload, model: nn.Module, batch: dict[str, Tensor]) -> Saved:
    """Do a forward pass and count what it saves.

    Args:
        workload: Says where the blocks are.
        model: The workload's model, as a variant has shaped it.
        batch: Inputs and labels, simulated or real.

    Returns:
        The bytes.
    """
    watch = _Watch(model)
    with _around(workload, watch), saved_tensors_hooks(watch.pack, lambda tensor: tensor):
        loss = loss_of(model, batch)
    del loss
    return Saved(watch.bytes, watch.block_bytes, watch.unit_bytes)


def saved_bytes(model: nn.Module, batch: dict[str, Tensor]) -> int:
    """Do a forward pass of any model and count what it saves.

    Args:
        model: Maps a batch to logits.
        batch: Inputs and labels.

    Returns:
        Bytes of distinct storages, parameters and buffers left out.
    """
    watch = _Watch(model)
    with saved_tensors_hooks(watch.pack, lambda tensor: tensor):
        loss_of(model, batch)
    return watch.bytes


@contextmanager
def _around(workload: Workload, watch: _Watch) -> Iterator[None]:
    """Watch where the blocks begin and end."""
    handles = []
    for block in workload.blocks():
        handles += [block.register_forward_pre_hook(watch.enter)]
        handles += [block.register_forward_hook(watch.leave)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
