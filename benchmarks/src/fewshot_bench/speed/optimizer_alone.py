"""The optimizer's step without any model around it: time, operations, waits, bytes per entry."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from fewshot_bench.results import StepTime
from fewshot_bench.speed.counting import count_operations
from fewshot_bench.speed.layers import VIT_B, bare_layers
from fewshot_bench.speed.simulate import counting
from fewshot_bench.speed.timing import seconds_of, summary
from fewshot_bench.speed.variants import VARIANTS, Choice, T

__all__ = ["OptimizerCost", "measure_optimizer"]

WINDOWS = 3
"""Lives of a support: the first is warm-up."""


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
    from so_optim import support_size

    workload = bare_layers(shapes, device)
    with counting() as counter:
        weights = list(workload.matrices().values())
        optimizer = VARIANTS[choice.variant].optimizer(workload, workload.model, choice)
        if optimizer is None:
            raise NotImplementedError(f"{choice.variant} has no optimizer")
        give_gradients = _giver(optimizer)
        for _ in range(2):
            give_gradients()
            optimizer.step()
        give_gradients()
        held = counter.live
    held -= _bytes([*weights, *(w.grad for w in weights if w.grad is not None)])
    found = count_operations(optimizer.step)
    done, seconds = 3, []
    for _ in range(done, WINDOWS * T):
        give_gradients()
        seconds.append(seconds_of(device)(optimizer.step))
    kept, redrawn = _by_kind(seconds, done)
    entries = sum(support_size(weight.numel(), choice.density or 1.0) for weight in weights)
    return OptimizerCost(
        entries, summary(kept), summary(redrawn), found.launched, found.waits, held / entries
    )


def _giver(optimizer: Optimizer) -> Callable[[], None]:
    """Make what hands every parameter its gradient again; the release throws it away."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    draw = torch.Generator(parameters[0].device).manual_seed(0)
    gradients = [torch.empty_like(p).normal_(generator=draw) for p in parameters]

    def give() -> None:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient

    return give


def _by_kind(seconds: list[float], first: int) -> tuple[list[float], list[float]]:
    """Part steps after the first life of a support by whether they drew a new one."""
    numbered = [(number, s) for number, s in enumerate(seconds, first) if number >= T]
    kept = [s for number, s in numbered if number % T]
    return kept, [s for number, s in numbered if number % T == 0]


def _bytes(tensors: list[Tensor]) -> int:
    """Add up distinct storages."""
    storages = {t.untyped_storage()._cdata: t.untyped_storage() for t in tensors}
    return sum(storage.nbytes() for storage in storages.values())
