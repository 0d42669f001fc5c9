r"""The pieces of one layer's step beside its matrix products: update, merge, factor gradients.

The update is what a pair of factors gives once its threshold is found. Each piece comes with the
bytes of the $m \times n$ matrices that it cannot do without; divided by its time they say how near
to the memory's speed it is. The release keeps its distances from the update to the gradients where
ours are made again, and does the update twice a step.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fewshot_bench.results import StepTime
from fewshot_bench.speed.one_layer import Layer
from fewshot_bench.speed.timing import in_turns, seconds_of, summary

__all__ = ["PIECES", "RANKS", "SHAPE", "Piece", "measure_pieces"]

SHAPE = (3072, 768)
"""Outputs and inputs of the first layer of ViT-B's MLP."""
RANKS = (8, 16, 32)
UPDATE, MERGE, FOLD = "update", "merge, threshold given", "gradients of the factors"
PIECES = {UPDATE: 1, MERGE: 2, FOLD: 1}
"""Name to matrices that are read or written once: the update is written; W is read and the merged
matrix written; the gradient of the matrix is read."""

Make = Callable[[], Callable[[], Any]]


@dataclass(frozen=True)
class Piece:
    """What one piece of one variant costs.

    Args:
        piece: A name in `PIECES`.
        variant: Whose.
        seconds: Of a call.
        bytes: Of the matrices that it reads or writes.
    """

    piece: str
    variant: str
    seconds: StepTime
    bytes: int


def measure_pieces(layers: Sequence[Layer], rounds: int, device: str = "cpu") -> list[Piece]:
    """Time the pieces of several layers, all in turns.

    Args:
        layers: Of the same shape.
        rounds: That count.
        device: Where they are.

    Returns:
        One entry per layer and piece that it has.
    """
    calls = {(layer, name): make for layer in layers for name, make in _calls(layer).items()}
    makes = [_within(layer, make) for (layer, _), make in calls.items()]
    steps = {str(number): functools.partial(_give, make) for number, make in enumerate(makes)}
    clock = seconds_of(device)
    seconds = in_turns(steps, rounds, lambda make: clock(make())).values()
    return [
        Piece(name, layer.variant, summary(taken), PIECES[name] * layer.module.base.weight.nbytes)
        for (layer, name), taken in zip(calls, seconds, strict=True)
    ]


def _give(make: Make) -> Make:
    """Give what is there already."""
    return make


def _within(layer: Layer, make: Make) -> Make:
    """Make a call ready, and have it done, as the variant does its steps."""

    def ready() -> Callable[[], Any]:
        with layer.context():
            return functools.partial(_call, layer, make())

    return ready


def _call(layer: Layer, call: Callable[[], Any]) -> None:
    """Do a call as the variant does its steps."""
    with layer.context():
        call()


def _calls(layer: Layer) -> dict[str, Make]:
    """List the pieces that a layer has; each makes the call that is timed."""
    weight = layer.module.base.weight
    draw = torch.Generator(weight.device).manual_seed(0)
    grad = torch.empty_like(weight).normal_(generator=draw)
    return _released(layer, grad) if layer.variant == "released-snell" else _ours(layer, grad)


def _ours(layer: Layer, grad: Tensor) -> dict[str, Make]:
    """Call what a forward and a backward of ours call."""
    try:
        from snell_layers.kernels import build, fold  # type: ignore[import-not-found]
    except ImportError:
        raise NotImplementedError("this version of snell_layers has no kernels module") from None
    factors, weight = layer.module.factors, layer.module.base.weight.detach()
    pair = factors.inner.detach(), factors.outer.detach(), None
    _, found = build(pair, factors.rule)
    return {
        UPDATE: lambda: lambda: build(pair, factors.rule),
        MERGE: lambda: lambda: build(pair, factors.rule, weight=weight, threshold=found),
        FOLD: lambda: lambda: fold(grad, pair, factors.rule, found),
    }


def _released(layer: Layer, grad: Tensor) -> dict[str, Make]:
    """Call the published module's own methods, and autograd on what they give."""
    (branch,) = layer.module.branches

    def update() -> Tensor:
        return branch.sparsify(branch.pathIntegrals())

    def without_gradient() -> None:
        with torch.no_grad():
            update()

    def backward() -> Callable[[], Any]:
        matrix = update()
        return lambda: torch.autograd.grad(matrix, layer.parameters, grad.mT)

    return {UPDATE: lambda: without_gradient, FOLD: backward}
