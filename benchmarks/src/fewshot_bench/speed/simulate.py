r"""Peak memory of a training step without its arithmetic, to the byte and on any machine.

The model is built without memory, its weights become fake tensors that know their shape only, and
every storage is counted while it lives. Counting a real step in the same way gives the same bytes.
"""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from fewshot_bench.memory import _LiveBytes
from fewshot_bench.speed.counting import count_operations
from fewshot_bench.speed.layers import state_bytes
from fewshot_bench.speed.saved import Saved, measure_saved
from fewshot_bench.speed.variants import VARIANTS, Choice, loss_of, train_step
from fewshot_bench.speed.workload import make_batch, make_workload
from fewshot_bench.tuned import Tuned

NOT_SIMULATED = "optimizer step not simulated: its real state is added to forward and backward"

__all__ = ["Memory", "counting", "measure_memory"]


@dataclass(frozen=True)
class Memory:
    """What one training step holds.

    Args:
        peak_bytes: Most bytes alive at once: weights, state, batch, activations, temporaries.
        standing_bytes: Alive between two steps.
        saved: What the forward keeps for the backward.
        flops: Of all matrix products of the step.
        operations: Non-view operations of the step.
        seconds: How long it took to find out.
        note: What could not be simulated; empty when the whole step was.
    """

    peak_bytes: int
    standing_bytes: int
    saved: Saved
    flops: int
    operations: int
    seconds: float
    note: str = ""


def measure_memory(
    model: str, choice: Choice, batch: int, depth: int | None = None, *, real: bool = False
) -> Memory:
    """Measure one training step, after a first one that makes the optimizer's state.

    Where the optimizer looks at values, which a simulation does not have, forward and backward are
    simulated and the bytes of its state, from a real step on equal shapes, are added.

    Args:
        model: A backbone of the catalog.
        choice: The variant.
        batch: Examples.
        depth: Blocks of each tower; `None` keeps all.
        real: Do the step for real, which checks the simulation on small models.

    Returns:
        The bytes.

    Raises:
        NotImplementedError: The variant cannot be built here; the message says why.
    """
    clock, variant = time.perf_counter(), VARIANTS[choice.variant]
    choice = replace(choice, simulated=not real)
    workload = make_workload(model, depth, meta=not real, split=variant.split)
    shaped, examples = variant.shape(workload), make_batch(workload, batch)
    with nullcontext() if real else FakeTensorMode(), counting() as counter:
        if not real:
            _give_weights(shaped)
            examples = {name: torch.empty(t.shape, dtype=t.dtype) for name, t in examples.items()}
        counter.register([*shaped.parameters(), *shaped.buffers(), *examples.values()])
        tuned, note = Tuned(shaped), NOT_SIMULATED
        if real or variant.traceable:
            tuned = Tuned(shaped, variant.optimizer(workload, shaped, choice))
            note = _first_step(tuned, examples)
        if note:
            tuned = Tuned(shaped)
        standing = counter.peak = counter.live
        train_step(tuned, examples)
        _clear(shaped)
        peak = counter.peak
        saved = measure_saved(workload, shaped, examples)
        with FlopCounterMode(display=False) as arithmetic:
            done = count_operations(lambda: train_step(tuned, examples))
    extra = 0
    if note:
        extra = state_bytes(workload.matrices().values(), replace(choice, simulated=False))
    seconds = time.perf_counter() - clock
    work = arithmetic.get_total_flops(), done.launched
    return Memory(peak + extra, standing + extra, saved, *work, seconds, note)


def _first_step(tuned: Tuned, batch: dict[str, Tensor]) -> str:
    """Do a step that makes the optimizer's state; say why if it cannot be simulated."""
    loss_of(tuned.model, batch).backward()
    reason = ""
    if tuned.optimizer is not None:
        try:
            tuned.optimizer.step()
        except Exception as error:  # torch has several for "this needs the values"
            if not _needs_values(error):
                raise
            reason = NOT_SIMULATED
    _clear(tuned.model)
    return reason


def _needs_values(error: Exception) -> bool:
    """Tell errors of fake tensors from errors of the program."""
    return type(error).__module__.startswith(("torch._subclasses", "torch.fx"))


def _clear(model: nn.Module) -> None:
    """Let go of all gradients."""
    for parameter in model.parameters():
        parameter.grad = None


def _give_weights(model: nn.Module) -> None:
    """Replace weights without memory by fake ones on the CPU, shared ones by shared ones."""
    made: dict[int, Tensor] = {}
    for module in model.modules():
        for name, weight in list(module._parameters.items()):
            if weight is not None:
                fresh = made.get(id(weight))
                if fresh is None:
                    values = torch.empty(weight.shape, dtype=weight.dtype)
                    fresh = made[id(weight)] = nn.Parameter(values, weight.requires_grad)
                module._parameters[name] = fresh  # type: ignore[assignment]
        for name, buffer in list(module._buffers.items()):
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


@contextmanager
def counting() -> Iterator[_LiveBytes]:
    """Count the storages of all tensors that live, and the most bytes there were.

    Yields:
        The counter, at work inside the block. Cycles are not collected meanwhile: when that happens
        would depend on what ran before.
    """
    counter, collecting = _LiveBytes(), gc.isenabled()
    gc.disable()
    try:
        with counter:
            yield counter
    finally:
        counter.forget()
        if collecting:
            gc.enable()
