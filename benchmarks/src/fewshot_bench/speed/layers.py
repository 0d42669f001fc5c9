"""Bare matrices as a model, for measuring an optimizer without any forward or backward."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fewshot_bench.speed.alive import counting
from fewshot_bench.speed.variants import VARIANTS, Choice
from fewshot_bench.speed.workload import Workload

__all__ = ["VIT_B", "StepBytes", "bare_layers", "giver", "step_bytes"]

VIT_B: tuple[tuple[int, int], ...] = ((2304, 768), (768, 768), (3072, 768), (768, 3072)) * 12
"""Shapes of ViT-B/16's 48 attention and MLP matrices."""
AT_ONCE = 320_000_000
"""Entries up to which all matrices are stepped together."""


def bare_layers(shapes: Sequence[tuple[int, int]], device: str = "cpu") -> Workload:
    """Make linear layers without bias, in one "block".

    Args:
        shapes: `(outputs, inputs)` of each.
        device: Where the weights are.

    Returns:
        A workload whose matrices have these shapes; it has no forward.

    Examples:
        >>> [tuple(w.shape) for w in bare_layers([(3, 2)]).matrices().values()]
        [(3, 2)]
    """
    layers = (nn.Linear(n, m, bias=False, device=device) for m, n in shapes)
    block = nn.ModuleList(layers)
    return Workload("layers", "layers", nn.ModuleList([block]), ((block,),), 0, 0, 0)


@dataclass(frozen=True)
class StepBytes:
    """What real steps of an optimizer take.

    Args:
        kept: Bytes alive after two steps that were not alive before the first.
        passing: Most bytes alive during a step beyond those alive before it.
    """

    kept: int
    passing: int


def step_bytes(weights: Sequence[Tensor], choice: Choice) -> StepBytes:
    """Weigh an optimizer by real steps on matrices of the same shapes.

    Args:
        weights: The matrices; only their shapes are read.
        choice: A variant that trains the matrices themselves.

    Returns:
        Bytes. Very large models are added up from one matrix of each shape, as if what passes
        were alive for all matrices at once.
    """
    shapes = [(weight.shape[0], weight.shape[1]) for weight in weights]
    if sum(weight.numel() for weight in weights) <= AT_ONCE:
        return _weighed(shapes, choice)
    each = [(shapes.count(shape), _weighed([shape], choice)) for shape in set(shapes)]
    return StepBytes(sum(n * one.kept for n, one in each), sum(n * one.passing for n, one in each))


def giver(optimizer: Optimizer) -> Callable[[], None]:
    """Make what hands every parameter its gradient again: the release throws it away.

    Args:
        optimizer: Whose parameters.

    Returns:
        A function that sets the same random gradients every time.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    draw = torch.Generator(parameters[0].device).manual_seed(0)
    gradients = [torch.empty_like(p).normal_(generator=draw) for p in parameters]

    def give() -> None:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient

    return give


def _weighed(shapes: Sequence[tuple[int, int]], choice: Choice) -> StepBytes:
    """Do two steps and watch."""
    workload = bare_layers(shapes)
    with counting() as counter:
        counter.register(list(workload.model.parameters()))
        optimizer = VARIANTS[choice.variant].optimizer(workload, workload.model, choice)
        if optimizer is None:
            return StepBytes(0, 0)
        give = giver(optimizer)
        give()
        before = counter.live
        optimizer.step()
        give()
        between = counter.peak = counter.live
        optimizer.step()
        give()
        return StepBytes(counter.live - before, counter.peak - between)
