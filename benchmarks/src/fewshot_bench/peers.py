"""Methods of others beside ours: PEFT's DoRA, SHiRA and Super-Tuning, 8-bit AdamW, GaLore.

Adapters get the rank of `lora.r`, and the sparse ones as many trained numbers as LoRA has at that
rank, so that a table compares like with like. Optimizers train what `full` trains.
"""

import warnings
from typing import TYPE_CHECKING, Any

import torch

from fewshot_bench.adapting import saved_head, with_adapters
from fewshot_bench.config import RunConfig
from fewshot_bench.method_options import LoraOptions
from fewshot_bench.places import layer_names
from fewshot_bench.seeds import derive
from fewshot_bench.trainable import groups_of, unfreeze
from fewshot_bench.tuned import Tuned

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn
    from torch.optim import Optimizer

    from vision_backbones import Backbone

__all__ = [
    "adamw_8bit",
    "adapter_config",
    "dora",
    "galore",
    "galore_optimizer",
    "lora_share",
    "shira",
    "supertuning",
]

GALORE = {"update_proj_gap": 50, "scale": 0.25, "proj_type": "std"}
"""As its README has them, but for the gap, which is longer than our trainings."""


def dora(backbone: "Backbone", config: RunConfig) -> Tuned:
    """Add PEFT's LoRA with magnitudes of its own (DoRA) to every linear layer of the blocks."""
    return _adapted("dora", backbone, config)


def shira(backbone: "Backbone", config: RunConfig) -> Tuned:
    """Train fixed random entries of every linear layer of the blocks (PEFT's SHiRA)."""
    return _adapted("shira", backbone, config)


def supertuning(backbone: "Backbone", config: RunConfig) -> Tuned:
    """Train the largest entries of every linear layer of the blocks (PEFT's Super-Tuning)."""
    return _adapted("supertuning", backbone, config)


def _adapted(method: str, backbone: "Backbone", config: RunConfig) -> Tuned:
    """Add somebody else's adapter where a configuration wants adapters."""
    layers = {name: backbone.get_submodule(name) for name in layer_names(backbone, config)}
    seed, head = derive(config.seed).support, saved_head(backbone)
    peft = adapter_config(method, layers, config.lora, seed=seed, modules_to_save=head)
    return with_adapters(backbone, config, peft)


def adapter_config(
    method: str, layers: "Mapping[str, nn.Module]", options: LoraOptions, seed: int, **more: Any
) -> Any:
    """Make PEFT's configuration of an adapter that trains as many numbers as LoRA.

    Args:
        method: `dora`, `shira` or `supertuning`.
        layers: The linear layers to wrap, by name.
        options: LoRA's rank, and for `dora` the rest of them.
        seed: Of the entries that `shira` draws.
        more: What every configuration of PEFT takes.

    Returns:
        For `get_peft_model`.
    """
    import peft

    common: dict[str, Any] = {"target_modules": list(layers), **more}
    if method == "dora":
        return peft.LoraConfig(
            r=options.r,
            lora_alpha=options.alpha,
            use_rslora=options.root_scale,
            lora_dropout=options.dropout,
            use_dora=True,
            **common,
        )
    if method == "shira":
        # Its layers build a sparse tensor in every forward; torch asks whether to check these.
        torch.sparse.check_sparse_tensor_invariants.disable()
        return peft.ShiraConfig(r=options.r, random_seed=seed, **common)
    share = lora_share(layers.values(), options.r)
    return peft.SupertuningConfig(sparsity=1 - share, **common)


def adamw_8bit(backbone: "Backbone", config: RunConfig) -> Tuned:
    """Train everything with bitsandbytes' AdamW, whose moments are 8-bit numbers."""
    import bitsandbytes

    body, head = unfreeze(backbone, lambda name: True)
    groups = groups_of(body, head, config)
    return Tuned(backbone, bitsandbytes.optim.AdamW8bit(groups, weight_decay=config.weight_decay))


def galore(backbone: "Backbone", config: RunConfig) -> Tuned:
    """Train everything, matrices with Adam in a projected space of low rank (GaLore)."""
    body, head = unfreeze(backbone, lambda name: True)
    return Tuned(backbone, galore_optimizer(groups_of(body, head, config), config.lora.r, config))


def galore_optimizer(
    groups: list[dict[str, Any]], rank: int, config: RunConfig | None = None
) -> "Optimizer":
    """Make GaLore's AdamW.

    Args:
        groups: Of any torch optimizer.
        rank: Of the projection of matrices; everything else gets plain AdamW.
        config: Gives the weight decay; none without one.

    Returns:
        The optimizer.
    """
    from galore_torch import GaLoreAdamW

    parts = []
    for group in groups:
        matrices = [p for p in group["params"] if p.ndim == 2]
        others = [p for p in group["params"] if p.ndim != 2]
        rest = {key: value for key, value in group.items() if key not in ("params", "name")}
        parts += [{**rest, "params": matrices, "rank": rank, **GALORE}] if matrices else []
        parts += [{**rest, "params": others}] if others else []
    decay = 0.0 if config is None else config.weight_decay
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # it says that it is GaLore's own AdamW
        return GaLoreAdamW(parts, weight_decay=decay, no_deprecation_warning=True)


def lora_share(layers: Any, r: int) -> float:
    r"""Give the share of entries that is as many numbers as LoRA trains.

    Args:
        layers: Linear layers.
        r: LoRA's rank.

    Returns:
        $\sum r (m + n) / \sum mn$ over the layers.
    """
    sizes: list[tuple[int, int]] = [(one.out_features, one.in_features) for one in layers]
    return sum(r * (m + n) for m, n in sizes) / sum(m * n for m, n in sizes)
