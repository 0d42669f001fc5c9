"""Wrapping a backbone with a PEFT method: what every adapter of the list shares."""

from typing import TYPE_CHECKING, Any

import torch

from fewshot_bench.config import RunConfig
from fewshot_bench.places import dense_beside
from fewshot_bench.seeds import derive
from fewshot_bench.trainable import adamw
from fewshot_bench.tuned import Tuned

if TYPE_CHECKING:
    from vision_backbones import Backbone

__all__ = ["saved_head", "with_adapters"]


def saved_head(backbone: "Backbone") -> list[str] | None:
    """Say what PEFT trains and saves besides its adapters.

    Args:
        backbone: To be adapted.

    Returns:
        The head's name, if the head has parameters.
    """
    return ["head"] if backbone.head_parameters() else None


def with_adapters(backbone: "Backbone", config: RunConfig, peft_config: Any) -> Tuned:
    """Wrap a backbone with a PEFT method and train what PEFT left trainable.

    Args:
        backbone: Changed in place.
        config: Gives seed and learning rates.
        peft_config: Of the method.

    Returns:
        The wrapped model and its AdamW.
    """
    from peft import get_peft_model

    beside = dense_beside(backbone, config)
    with torch.random.fork_rng(devices=[]):  # the factors' initial values
        torch.manual_seed(derive(config.seed).init)
        model = get_peft_model(backbone, peft_config)
    for parameter in beside.values():
        parameter.requires_grad_(True)
    ours = {id(parameter) for parameter in beside.values()}
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    head = [p for name, p in trained.items() if ".head." in name]
    adapters = [p for name, p in trained.items() if ".head." not in name and id(p) not in ours]
    return Tuned(model, adamw(adapters, head, config, list(beside.values())))
