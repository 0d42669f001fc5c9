"""Methods of others as variants of the speed benchmark: PEFT's adapters, and two optimizers."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer

from fewshot_bench.peers import galore_optimizer, lora_share
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

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return get_peft_model(workload.model, _config(method, workload))  # type: ignore[arg-type]

    return shape


def _config(method: str, workload: Workload) -> Any:
    """Make PEFT's configuration of a method."""
    import peft

    layers = workload.linears()
    names = list(layers)
    if method == "dora":
        return peft.LoraConfig(r=RANK, lora_alpha=ALPHA, use_dora=True, target_modules=names)
    if method == "shira":
        torch.sparse.check_sparse_tensor_invariants.disable()
        return peft.ShiraConfig(r=RANK, random_seed=0, target_modules=names)
    sparsity = 1 - lora_share(layers.values(), RANK)
    return peft.SupertuningConfig(sparsity=sparsity, target_modules=names)


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
