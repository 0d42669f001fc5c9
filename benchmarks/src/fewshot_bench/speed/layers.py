"""Bare matrices as a model, for measuring an optimizer without any forward or backward."""

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from fewshot_bench.memory import tensors_in
from fewshot_bench.speed.variants import VARIANTS, Choice
from fewshot_bench.speed.workload import Workload

__all__ = ["VIT_B", "bare_layers", "state_bytes"]

VIT_B: tuple[tuple[int, int], ...] = ((2304, 768), (768, 768), (3072, 768), (768, 3072)) * 12
"""Shapes of ViT-B/16's 48 attention and MLP matrices."""


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


def state_bytes(weights: Iterable[Tensor], choice: Choice) -> int:
    """Add up the state that an optimizer keeps, from one real step per distinct shape.

    Args:
        weights: The matrices; only their shapes are read.
        choice: A variant that trains the matrices themselves.

    Returns:
        Bytes of all tensors in its state.
    """
    shapes = [(weight.shape[0], weight.shape[1]) for weight in weights]
    return sum(shapes.count(shape) * _state_of(shape, choice) for shape in set(shapes))


def _state_of(shape: tuple[int, int], choice: Choice) -> int:
    """Do a step on one matrix and weigh the state."""
    workload = bare_layers([shape])
    (weight,) = workload.matrices().values()
    optimizer = VARIANTS[choice.variant].optimizer(workload, workload.model, choice)
    weight.grad = weight.detach().clone()
    if optimizer is None:
        return 0
    optimizer.step()
    found = {t.untyped_storage()._cdata: t for t in tensors_in(list(optimizer.state.values()))}
    return sum(tensor.untyped_storage().nbytes() for tensor in found.values())
