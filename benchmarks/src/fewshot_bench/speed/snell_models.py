"""SNELL as a variant: our adapters through PEFT, the published ones, with or without kernels."""

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fewshot_bench.speed.simulated_kernels import simulated_kernels
from fewshot_bench.speed.snell_release import add_released
from fewshot_bench.speed.workload import Workload

if TYPE_CHECKING:
    from fewshot_bench.speed.variants import Choice

__all__ = [
    "RANK",
    "SPARSITY",
    "as_installed",
    "has_kernels",
    "our_snell",
    "plain_torch",
    "released_snell",
]

RANK, SPARSITY = 8, 0.9
Shape = Callable[[Workload, "Choice"], nn.Module]


def our_snell(sparsity: float = SPARSITY, memory: str = "free") -> Shape:
    """Make what adds our adapters to every linear layer of the blocks, as users do it.

    Args:
        sparsity: Share of each update set to zero.
        memory: What the adapters may compute again: "free" the outputs of LayerNorm and GELU,
            "low" the MLP's hidden layer as well.

    Returns:
        From a workload to the model with adapters.
    """

    def shape(workload: Workload, choice: "Choice") -> nn.Module:
        from peft import get_peft_model

        from snell_layers.peft import SnellConfig

        named: dict[str, Any] = {"r": RANK, "sparsity": sparsity} | _memory(SnellConfig, memory)
        config = SnellConfig(target_modules=list(workload.linears()), **named)
        return get_peft_model(workload.model, config)  # type: ignore[arg-type]

    return shape


def released_snell(sparsity: float) -> Shape:
    """Make what adds the published adapters to every linear layer of the blocks.

    Args:
        sparsity: Share of each update set to zero; 0 adds the published KLoRA.

    Returns:
        From a workload to the model with adapters.
    """

    def shape(workload: Workload, choice: "Choice") -> nn.Module:
        if choice.release is None:
            raise NotImplementedError("no --snell-release given: name a clone of ssfgunner/SNELL")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            names = list(workload.linears())
            add_released(workload.model, names, choice.release, RANK, sparsity, choice.simulated)
        return workload.model

    return shape


def plain_torch(choice: "Choice | None" = None) -> AbstractContextManager[Any]:
    """Keep snell_layers away from its compiled kernels.

    Args:
        choice: The variant, where it is one that is measured.

    Returns:
        A context; steps inside it run in plain torch.

    Raises:
        NotImplementedError: This version of snell_layers has no kernels that can be turned off, or
            the steps are simulated, tile by tile, which takes hours.
    """
    if choice is not None and choice.simulated:
        raise NotImplementedError("plain torch goes tile by tile, too many to simulate")
    return _switch()(False)


def as_installed(choice: "Choice") -> AbstractContextManager[Any]:
    """Let snell_layers choose; a simulation is one of the compiled kernels.

    Args:
        choice: The variant.

    Returns:
        A context for the steps.
    """
    return simulated_kernels() if choice.simulated else nullcontext()


def has_kernels() -> bool:
    """Tell whether snell_layers has compiled kernels at work that can be turned off.

    Returns:
        Whether it has, and they run here; the first question may compile them.
    """
    try:
        from snell_layers.kernels import available  # type: ignore[import-not-found]
    except ImportError:
        return False
    return available()


def _switch() -> Callable[[bool], AbstractContextManager[Any]]:
    """Find what turns the kernels on and off."""
    try:
        from snell_layers.kernels import use  # type: ignore[import-not-found]
    except ImportError:
        raise NotImplementedError(
            "this version of snell_layers has no kernels to turn off: measure snell instead"
        ) from None
    return use


def _memory(config: type, level: str) -> dict[str, str]:
    """Ask for a memory level, where the configuration has them."""
    if "memory" in {field.name for field in dataclasses.fields(config)}:
        return {"memory": level}
    if level == "free":
        return {}
    raise NotImplementedError(f"this version of snell_layers has no memory level {level!r}")
