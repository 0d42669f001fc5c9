r"""The exact peak of live tensor bytes during a training step.

On a CPU nothing counts allocations, so this does: every storage is registered when an operation
first takes or returns it, and taken off when the last tensor on it dies,

$$ \text{peak} = \max_t \sum_{s \,\text{alive at}\, t} \text{bytes}(s) . $$

Parameters, gradients, optimizer state, the batch, activations and temporaries all count; what a
kernel allocates and frees inside itself does not. It watches a real step and leaves its numbers
alone. On CUDA the allocator's own peak is read instead.
"""

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fewshot_bench.tuned import Tuned

__all__ = ["Peak", "tensors_in", "watch_peak"]


@dataclass
class Peak:
    """Filled in when the watched block ends."""

    bytes: int = 0


@contextmanager
def watch_peak(tuned: Tuned, batch: dict[str, torch.Tensor], device: str) -> Iterator[Peak]:
    """Measure the most bytes of tensors alive at once inside the block.

    Args:
        tuned: Its parameters, buffers, gradients and optimizer state are alive from the start.
        batch: The batch of the step, alive from the start.
        device: `cpu`, or a CUDA device, where everything the allocator holds counts.

    Yields:
        A `Peak`, whose `bytes` are right once the block has ended.

    Examples:
        >>> from torch import nn
        >>> with watch_peak(Tuned(nn.Linear(2, 2)), {}, "cpu") as peak:
        ...     _ = torch.zeros(100)
        >>> peak.bytes  # 6 parameters and 100 zeros of 4 bytes
        424
    """
    peak = Peak()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        torch.cuda.synchronize(device)
        peak.bytes = torch.cuda.max_memory_allocated(device)
        return
    counter = _LiveBytes()
    collecting = gc.isenabled()
    gc.disable()  # when cycles are collected would depend on what ran before
    try:
        counter.register([*_standing(tuned), *batch.values()])
        with counter:
            yield peak
        peak.bytes = counter.peak
    finally:
        counter.forget()
        if collecting:
            gc.enable()


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """Find the tensors in nested dictionaries, lists and tuples, such as an optimizer's state.

    Args:
        value: Anything.

    Yields:
        Every tensor in it.
    """
    yield from (leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor))


def _standing(tuned: Tuned) -> Iterator[torch.Tensor]:
    """Go through what is alive before the step starts."""
    for parameter in [*tuned.model.parameters(), *tuned.trained()]:
        yield parameter
        if parameter.grad is not None:
            yield parameter.grad
    yield from tuned.model.buffers()
    if tuned.optimizer:
        yield from tensors_in(list(tuned.optimizer.state.values()))


class _LiveBytes(TorchDispatchMode):
    """Adds up the storages that operations take and return, until they die."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._finalizers: dict[int, weakref.finalize] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.register(tree_leaves((args, kwargs)))  # constants that were there before
        result = func(*args, **(kwargs or {}))
        self.register(tree_leaves(result))
        return result

    def register(self, values: list[Any]) -> None:
        """Count the storages of the tensors among some values, each once."""
        for value in values:
            if isinstance(value, torch.Tensor) and value.layout is torch.strided:
                self._add(value.untyped_storage())
        self.peak = max(self.peak, self.live)

    def forget(self) -> None:
        """Stop following the storages that are still alive."""
        for finalizer in self._finalizers.values():
            finalizer.detach()
        self._finalizers.clear()

    def _add(self, storage: torch.UntypedStorage) -> None:
        """Count a storage and have it taken off when it dies."""
        key, size = storage._cdata, storage.nbytes()
        if key not in self._finalizers:
            self.live += size
            self._finalizers[key] = weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        """Take a dead storage off."""
        self.live -= size
        self._finalizers.pop(key, None)
