r"""Peak memory of a training step without its arithmetic, to the byte and on any machine.

The model is built without memory, its weights become fake tensors that know their shape only, and
every storage is counted while it lives. Counting a real step in the same way gives the same bytes.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from fewshot_bench.speed.alive import counting
from fewshot_bench.speed.counting import count_operations
from fewshot_bench.speed.layers import step_bytes
from fewshot_bench.speed.saved import Saved, measure_saved
from fewshot_bench.speed.variants import VARIANTS, Choice, loss_of, train_step
from fewshot_bench.speed.workload import make_batch, make_workload
from fewshot_bench.tuned import Tuned

NOT_SIMULATED = "optimizer step not simulated: what it keeps is weighed in real steps and added"
COUNTED = "counted in a real step: it looks at values, which a simulation does not have"

__all__ = ["Memory", "measure_memory"]


@dataclass(frozen=True)
class Memory:
    """What one training step holds.

    Args:
        peak_bytes: Most bytes alive at once: weights, state, batch, activations, temporaries.
        standing_bytes: Alive between two steps.
        saved: What the forward keeps for the backward.
        flops: Of all matrix products of the step.
        operations: Non-view operations of the step; 0 where nobody counted.
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
    simulated, and real steps of it on equal shapes give the bytes that it keeps and passes through.

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
    shaped, examples = variant.shape(workload, choice), make_batch(workload, batch)
    whole = real or variant.traceable
    step = train_step if whole else _forward_and_backward
    world = nullcontext() if real else _simulation()
    with world, variant.context(choice), counting() as counter:
        if not real:
            _give_weights(shaped)
            examples = {name: torch.empty(t.shape, dtype=t.dtype) for name, t in examples.items()}
        counter.register([*shaped.parameters(), *shaped.buffers(), *examples.values()])
        weights = list(workload.matrices().values())
        tuned = Tuned(shaped, variant.optimizer(workload, shaped, choice))
        if whole:
            step(tuned, examples)  # the one that makes the optimizer's state
        standing = counter.peak = counter.live
        with FlopCounterMode(display=False) as arithmetic:
            done = count_operations(lambda: step(tuned, examples))
        peak, before_update = counter.peak, counter.live
        _clear(shaped)
        saved = measure_saved(workload, shaped, examples)
    kept, note = 0, COUNTED if variant.real else ""
    if not whole:
        update = step_bytes(weights, replace(choice, simulated=False))
        kept, note = update.kept, NOT_SIMULATED
        peak = max(peak, before_update + update.passing)
    work = arithmetic.get_total_flops(), done.launched
    seconds = time.perf_counter() - clock
    return Memory(peak + kept, standing + kept, saved, *work, seconds, note)


def _forward_and_backward(tuned: Tuned, batch: dict[str, Tensor]) -> None:
    """Do a training step without the optimizer's part."""
    loss_of(tuned.model, batch).backward()


def _clear(model: nn.Module) -> None:
    """Let go of all gradients."""
    for parameter in model.parameters():
        parameter.grad = None


@contextmanager
def _simulation() -> Iterator[None]:
    """Let new tensors be fake ones, on a CPU that answers as it does for real ones."""
    real_choice = torch._fused_sdp_choice

    def choice(*arguments: Any, **named: Any) -> int:
        with unset_fake_temporarily():  # a fake tensor would be told the slow way
            arguments, named = tree_map_only(Tensor, _alike, (arguments, named))
            return real_choice(*arguments, **named)

    torch._fused_sdp_choice = choice
    try:
        with FakeTensorMode():
            yield
    finally:
        torch._fused_sdp_choice = real_choice


def _alike(fake: Tensor) -> Tensor:
    """Give a real tensor of the same shape and type."""
    return torch.empty(fake.shape, dtype=fake.dtype)


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
