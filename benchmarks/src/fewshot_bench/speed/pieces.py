r"""The pieces of one layer's step beside its matrix products: update, merge, factor gradients.

With a single token the products are small, so the calls that users make show the rest. Each piece
comes with the bytes of its $m \times n$ matrices that pass through memory where every piece is one
kernel; divided by its time they say how near to the memory's speed it is.
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
PIECES = {
    "update": 1,
    "update, threshold given": 1,
    "forward of a token": 3,
    "backward of a token": 2,
}
"""Name to matrices that are read or written: the update is written; W is read, the merged matrix
written and read; the gradient of the matrix is written and read."""

Make = Callable[[], Callable[[], Any]]


@dataclass(frozen=True)
class Piece:
    """What one piece of one variant costs.

    Args:
        piece: A name in `PIECES`.
        variant: Whose.
        seconds: Of a call.
        bytes: Of the matrices that pass through memory.
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
    x = torch.ones(1, weight.shape[1], device=weight.device)
    own = _released(layer) if layer.variant == "released-snell" else _ours(layer)
    return own | {
        "forward of a token": lambda: lambda: _without_gradient(layer.module, x),
        "backward of a token": lambda: _backward(layer, x),
    }


def _ours(layer: Layer) -> dict[str, Make]:
    """Call our functions, with the threshold to find and with it given."""
    from snell_layers import snell_delta

    factors = layer.module.factors
    arguments = factors.inner, factors.outer, factors.rule
    _, found = snell_delta(*arguments)
    return {
        "update": lambda: lambda: snell_delta(*arguments),
        "update, threshold given": lambda: lambda: snell_delta(*arguments, threshold=found),
    }


def _released(layer: Layer) -> dict[str, Make]:
    """Call the published module's own methods."""
    (branch,) = layer.module.branches

    def update() -> Tensor:
        with torch.no_grad():
            return branch.sparsify(branch.pathIntegrals())

    return {"update": lambda: update}


def _without_gradient(module: Any, x: Tensor) -> None:
    """Run a layer and keep nothing."""
    with torch.no_grad():
        module(x)


def _backward(layer: Layer, x: Tensor) -> Callable[[], None]:
    """Run a layer, and give the call that folds a gradient into its factors."""
    for parameter in layer.parameters:
        parameter.grad = None
    y = layer.module(x)
    grad = torch.ones_like(y)
    return lambda: y.backward(grad)
