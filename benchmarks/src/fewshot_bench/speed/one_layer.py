"""One adapted linear layer, ours or the published one, built on its own."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fewshot_bench.speed.snell_models import SPARSITY
from fewshot_bench.speed.snell_release import add_released
from fewshot_bench.speed.variants import VARIANTS, Choice

__all__ = ["LAYER_VARIANTS", "Layer", "make_layer"]

LAYER_VARIANTS = ("released-snell", "snell-torch", "snell")
"""The variants that are measured on single layers, in the order of their turns."""


@dataclass(frozen=True, eq=False)
class Layer:
    """One adapted layer.

    Args:
        variant: Whose.
        module: Maps `(tokens, inputs)` to `(tokens, outputs)`.
        context: In what its forward and backward are done.
    """

    variant: str
    module: Any
    context: Callable[[], AbstractContextManager[Any]]

    @property
    def parameters(self) -> list[Tensor]:
        """What is trained."""
        return [p for p in self.module.parameters() if p.requires_grad]


def make_layer(
    choice: Choice, outputs: int, inputs: int, *, r: int = 8, device: str = "cpu"
) -> Layer:
    """Build one layer at the sparsity of the comparison.

    Args:
        choice: One of `LAYER_VARIANTS`.
        outputs: Rows of its weight.
        inputs: Columns.
        r: Rank.
        device: Where.

    Returns:
        The layer.

    Raises:
        NotImplementedError: The variant cannot be built here; the message says why.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        base = nn.Linear(inputs, outputs, device=device)
        if choice.variant == "released-snell":
            module = _released(base, choice.release, r)
        else:
            from snell_layers import SnellLinear

            module = SnellLinear(base, r, SPARSITY)
    context = VARIANTS[choice.variant].context
    with context(choice):  # a variant that cannot be had is found out here
        return Layer(choice.variant, module, lambda: context(choice))


def _released(base: nn.Linear, release: Path | None, r: int) -> nn.Module:
    """Put the published adapter beside a layer."""
    if release is None:
        raise NotImplementedError("no --snell-release given: name a clone of ssfgunner/SNELL")
    holder = nn.ModuleDict({"layer": base})
    add_released(holder, ["layer"], release, r, SPARSITY, simulated=False)
    return holder["layer"]
