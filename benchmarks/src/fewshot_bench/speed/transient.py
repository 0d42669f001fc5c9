r"""The largest extra memory of one adapted layer while it computes, in matrices of its own size.

Input, output and their gradients, the parameters and their gradients are there with any method and
are subtracted. With few tokens what is left is of the size of the weight, so it is told in units of
$m \times n$ floats. What a kernel takes and gives back inside itself is not seen.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fewshot_bench.memory import _LiveBytes
from fewshot_bench.speed.alive import counting
from fewshot_bench.speed.one_layer import Layer, make_layer
from fewshot_bench.speed.variants import Choice

__all__ = ["TOKENS", "Transient", "measure_transient"]

TOKENS = 8
"""Few, so that activations are small beside a matrix."""


@dataclass(frozen=True)
class Transient:
    """Bytes beyond what lives before and after.

    Args:
        forward: In the forward.
        backward: In the backward.
    """

    forward: int
    backward: int


def measure_transient(choice: Choice, outputs: int, inputs: int) -> Transient:
    """Do a step of one layer and watch; one before it makes whatever the layer keeps.

    Args:
        choice: One of `LAYER_VARIANTS`.
        outputs: Rows m of the weight.
        inputs: Columns n.

    Returns:
        The bytes.

    Raises:
        NotImplementedError: The variant cannot be built here; the message says why.
    """
    layer = make_layer(choice, outputs, inputs)
    x = torch.ones(TOKENS, inputs).requires_grad_()
    grad = torch.ones(TOKENS, outputs)
    with layer.context():
        layer.module(x).backward(grad)
        _forget(layer, x)
        with counting() as counter:
            module = layer.module
            counter.register([*module.parameters(), *module.buffers(), x, grad])
            return _watched(counter, layer, x, grad)


def _watched(counter: _LiveBytes, layer: Layer, x: Tensor, grad: Tensor) -> Transient:
    """Do a step and subtract what belongs to any method."""
    before = counter.peak = counter.live
    y = layer.module(x)
    forward = counter.peak - before - _bytes([y])
    before = counter.peak = counter.live
    y.backward(grad)
    made = [t.grad for t in (x, *layer.parameters) if t.grad is not None]
    return Transient(forward, counter.peak - before - _bytes(made))


def _forget(layer: Layer, x: Tensor) -> None:
    """Let go of all gradients."""
    for tensor in (x, *layer.parameters):
        tensor.grad = None


def _bytes(tensors: list[Tensor]) -> int:
    """Add up sizes."""
    return sum(tensor.nbytes for tensor in tensors)
