"""Methods of others as variants of the speed benchmark: PEFT's adapters, and two optimizers."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.optim import Optimizer

from fewshot_bench.method_options import LoraOptions
from fewshot_bench.peers import adapter_config, galore_optimizer
from fewshot_bench.speed.workload import Workload

if TYPE_CHECKING:
    from fewshot_bench.speed.variants import Choice

__all__ = ["adamw_8bit", "galore", "peer_adapter"]

RANK, ALPHA, LR = 8, 16, 1e-4


def peer_adapter(method: str) -> Callable[[Workload, "Choice"], nn.Module]:
    """Make what adds an adapter to every linear layer of the blocks, as large as LoRA of rank 8.

    Args:
        method: `dora`, `shira` or `supertuning`.

    Returns:
        From a workload to the model with adapters.
    """

    def shape(workload: Workload, choice: "Choice") -> nn.Module:
        from peft import get_peft_model

        options = LoraOptions(r=RANK, alpha=ALPHA)
        config = adapter_config(method, workload.linears(), options, seed=0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return get_peft_model(workload.model, config)  # type: ignore[arg-type]

    return shape


def adamw_8bit(workload: Workload, model: nn.Module, choice: "Choice") -> Optimizer:
    """Make bitsandbytes' AdamW with 8-bit moments."""
    _installed("bitsandbytes")
    import bitsandbytes

    return bitsandbytes.optim.AdamW8bit(_trained(model), lr=LR)


def galore(workload: Workload, model: nn.Module, choice: "Choice") -> Optimizer:
    """Make GaLore's AdamW at rank 8."""
    _installed("galore_torch")
    return galore_optimizer([{"params": _trained(model), "lr": LR}], RANK)


def _trained(model: nn.Module) -> list[nn.Parameter]:
    """List what moves."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _installed(package: str) -> None:
    """Refuse where a package of the extra `peers` is missing."""
    import importlib.util

    if importlib.util.find_spec(package) is None:
        raise NotImplementedError(f"{package} is not installed: fewshot-bench[peers] brings it")
