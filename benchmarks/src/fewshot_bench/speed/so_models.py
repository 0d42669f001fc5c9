"""SO as a variant: over dense gradients, over sampled ones, and as it was published."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fewshot_bench.speed.release import load_release
from fewshot_bench.speed.workload import Workload

if TYPE_CHECKING:
    from fewshot_bench.speed.variants import Choice

__all__ = ["T", "dense_so", "released_so", "sampled_so"]

SO_SETTINGS: dict[str, Any] = {"lr": 2e-4, "betas": (0.9, 0.999)}
T = 10
"""Steps that a support lives, for SO and the release alike."""


def dense_so(workload: Workload, model: nn.Module, choice: "Choice") -> Optimizer:
    """Make our SO, which reads dense gradients."""
    return _so_class(choice)(workload.matrices().values(), **_so_settings(choice))


def sampled_so(memory: str) -> "Callable[[Workload, nn.Module, Choice], Optimizer]":
    """Make our SO with sampled gradients, at a memory level."""

    def make(workload: Workload, model: nn.Module, choice: "Choice") -> Optimizer:
        optimizer: Any = dense_so(workload, model, choice)
        if not hasattr(optimizer, "sample_gradients"):
            raise NotImplementedError("this version of so_optim has no sample_gradients")
        optimizer.sample_gradients(model, memory=memory)
        return optimizer

    return make


def released_so(workload: Workload, model: nn.Module, choice: "Choice") -> Optimizer:
    """Make the published SO, its sort made stable."""
    if choice.release is None:
        raise NotImplementedError("no --release given: name a clone of nairouz/SO")
    groups = [{"params": list(workload.matrices().values()), "dense": False}]
    settings = {**SO_SETTINGS, "density_ratio": choice.density, "T": T}
    return load_release(choice.release)(groups, **settings)


def _so_settings(choice: "Choice") -> dict[str, Any]:
    """Collect the settings of SO."""
    return {**SO_SETTINGS, "density_ratio": choice.density, "T": T}


def _so_class(choice: "Choice") -> type[Optimizer]:
    """Give SO, or in a simulation one whose supports are only shapes: drawing looks at values."""
    from so_optim import SO

    if not choice.simulated:
        return SO

    class Simulated(SO):
        """SO with supports of the right size."""

        def _draw(self, seed: int, number: int, draw: int, n: int, k: int) -> Tensor:
            return torch.empty(k, dtype=torch.int64)

    return Simulated
