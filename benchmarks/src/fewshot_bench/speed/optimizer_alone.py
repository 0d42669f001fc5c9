"""The optimizer's step without any model around it: time, operations, waits, bytes per entry."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.optim import Optimizer

from fewshot_bench.results import StepTime
from fewshot_bench.speed.alive import counting
from fewshot_bench.speed.counting import Operations, count_operations
from fewshot_bench.speed.layers import VIT_B, bare_layers, giver
from fewshot_bench.speed.so_models import T
from fewshot_bench.speed.timing import seconds_of, summary
from fewshot_bench.speed.variants import VARIANTS, Choice
from fewshot_bench.speed.workload import Workload

__all__ = ["OptimizerCost", "measure_optimizer"]

WINDOWS = 3
"""Lives of a support: the first is warm-up."""
FIRST = 2
"""Steps that make the state."""
COUNTED = T + 3
"""The step whose operations are counted: the kept set and the support differ by then."""


@dataclass(frozen=True)
class OptimizerCost:
    """What a step costs.

    Args:
        entries: Trained entries of all matrices, K.
        step: Seconds of a step that keeps the support.
        redraw: Seconds of a step that draws a new one.
        operations: Non-view operations of a step that keeps the support.
        waits: Host synchronisations of such a step on a GPU.
        bytes_per_entry: Everything that lives between backward and step beside the weights, and
            beside a dense gradient where that is the input, divided by K.
    """

    entries: int
    step: StepTime
    redraw: StepTime
    operations: int
    waits: int
    bytes_per_entry: float


def measure_optimizer(
    choice: Choice, shapes: tuple[tuple[int, int], ...] = VIT_B, device: str = "cpu"
) -> OptimizerCost:
    """Measure the steps of one optimizer over three lives of a support.

    Args:
        choice: A variant with a density.
        shapes: The matrices.
        device: Where.

    Returns:
        The costs.

    Raises:
        NotImplementedError: The variant cannot be built here; the message says why.
    """
    workload = bare_layers(shapes, device)
    held, optimizer, give = _built(workload, choice)
    clock, found = seconds_of(device), Operations()
    kept, redrawn = [], []
    # With compact leaves the next support is known before the forward: drawn by the last step.
    draws = T - 1 if getattr(optimizer, "_leaves", None) else 0
    for number in range(FIRST, WINDOWS * T):
        give()
        if number == COUNTED:
            found = count_operations(lambda: _step_as_on_a_gpu(optimizer))
            continue
        taken = clock(optimizer.step)
        if number >= T:
            (redrawn if number % T == draws else kept).append(taken)
    entries = _entries(workload, choice)
    times = summary(kept, warmup=T), summary(redrawn, warmup=T)
    return OptimizerCost(entries, *times, found.launched, found.waits, held / entries)


def _step_as_on_a_gpu(optimizer: Optimizer) -> None:
    """Step without looking at the gradients' values first, as SO does on accelerators."""
    packed = getattr(optimizer, "_packed", None)
    if packed is None:
        optimizer.step()
        return
    before, packed.waits = packed.waits, False
    try:
        optimizer.step()
    finally:
        packed.waits = before


def _built(workload: Workload, choice: Choice) -> tuple[int, Optimizer, Callable[[], None]]:
    """Build an optimizer, do its first steps, and count what it holds beside the weights."""
    weights = list(workload.matrices().values())
    with counting() as counter:
        counter.register(weights)
        optimizer = VARIANTS[choice.variant].optimizer(workload, workload.model, choice)
        if optimizer is None:
            raise NotImplementedError(f"{choice.variant} has no optimizer")
        give = giver(optimizer)
        for _ in range(FIRST):
            give()
            optimizer.step()
        give()
        held = counter.live
    dense = [weight.grad for weight in weights if weight.grad is not None]
    return held - _bytes([*weights, *dense]), optimizer, give


def _entries(workload: Workload, choice: Choice) -> int:
    """Count the trained entries."""
    from so_optim import support_size

    sizes = [weight.numel() for weight in workload.matrices().values()]
    return sum(support_size(size, choice.density or 1.0) for size in sizes)


def _bytes(tensors: list[Tensor]) -> int:
    """Add up distinct storages."""
    storages = {t.untyped_storage()._cdata: t.untyped_storage() for t in tensors}
    return sum(storage.nbytes() for storage in storages.values())
