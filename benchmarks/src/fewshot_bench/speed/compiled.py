"""torch.compile with an activation budget: the opponent that computes activations again by itself.

A simulation cannot look inside compiled code. What autograd saves around it can be counted, on a
short model and a small batch, and grows in proportion; the peak is at least that and the weights.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fewshot_bench.speed.saved import Saved, saved_bytes
from fewshot_bench.speed.simulate import Memory, measure_memory
from fewshot_bench.speed.variants import VARIANTS, Choice
from fewshot_bench.speed.workload import make_batch, make_workload

__all__ = ["NOTE", "Compiled", "measure_compiled"]

BATCH, DEPTH = 2, 2
BACKEND = "aot_eager_decomp_partition"
"""Cuts the graph as the default backend does, and generates no code."""
NOTE = (
    f"compiled: saved bytes of a real run of {DEPTH} blocks at batch {BATCH}, scaled; "
    "the peak is a lower bound: weights, state and saved bytes"
)


class Compiled(nn.Module):
    """A model under torch.compile that may save only so much.

    Args:
        model: The model.
        budget: The share of activations that may be saved, in [0, 1].
        backend: Of torch.compile.
    """

    def __init__(self, model: nn.Module, budget: float, backend: str = "inductor") -> None:
        super().__init__()
        self.model, self.budget = model, budget
        self._run = torch.compile(_own_function(model), backend=backend)

    def forward(self, batch: dict[str, Tensor]) -> Any:
        """Run the model; the first call of each kind compiles it."""
        import torch._functorch.config as settings

        with settings.patch(activation_memory_budget=self.budget):
            return self._run(batch)


def _own_function(model: nn.Module) -> Callable[[dict[str, Tensor]], Any]:
    """Call the model in code of its own: equal code would share what another budget compiled."""

    def run(batch: dict[str, Tensor]) -> Any:
        return model(batch)

    run.__code__ = run.__code__.replace(co_name=f"run_{id(model)}")
    return run


def measure_compiled(model: str, choice: Choice, batch: int, depth: int | None = None) -> Memory:
    """Estimate what a compiled variant holds.

    Args:
        model: A backbone of the catalog.
        choice: A variant with a budget.
        batch: Examples.
        depth: Blocks of each tower; `None` keeps all.

    Returns:
        The bytes; the peak is a lower bound.
    """
    clock, variant = time.perf_counter(), VARIANTS[choice.variant]
    plain = measure_memory(model, Choice("lora"), batch, depth)  # the same before compilation
    workload = make_workload(model, min(depth or DEPTH, DEPTH), split=variant.split)
    short = Compiled(variant.shape(workload, choice), variant.budget or 1.0, BACKEND)
    unit = measure_memory(model, Choice("lora"), BATCH, len(workload.towers[0])).saved.unit_bytes
    units = saved_bytes(short, make_batch(workload, BATCH)) / unit
    saved = round(units * plain.saved.unit_bytes)
    return Memory(
        plain.standing_bytes + saved,
        plain.standing_bytes,
        Saved(saved, saved, plain.saved.unit_bytes),
        *(plain.flops, 0),
        *(time.perf_counter() - clock, NOTE),
    )
