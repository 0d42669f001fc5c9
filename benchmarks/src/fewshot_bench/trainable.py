"""Choosing what may move: freezing, parameter groups, and the AdamW that most methods share."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.optim import AdamW

from fewshot_bench.config import RunConfig, resolve

if TYPE_CHECKING:
    from vision_backbones import Backbone

__all__ = ["adamw", "groups_of", "unfreeze"]


def unfreeze(
    backbone: "Backbone", chosen: Callable[[str], bool]
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Freeze all but the head and the chosen parameters.

    Args:
        backbone: Changed in place.
        chosen: Says of a parameter's name whether it may move; the head always does.

    Returns:
        The chosen parameters, and the head's (none where class prompts are the head).
    """
    backbone.requires_grad_(False)
    head = list(backbone.head.requires_grad_(True).parameters())
    body = [
        parameter
        for name, parameter in backbone.named_parameters()
        if not name.startswith("head.") and chosen(name)
    ]
    for parameter in body:
        parameter.requires_grad_(True)
    return body, head


def groups_of(
    body: list[nn.Parameter],
    head: list[nn.Parameter],
    config: RunConfig,
    beside: list[nn.Parameter] | None = None,
) -> list[dict[str, Any]]:
    """Make parameter groups, each with its own learning rate.

    Args:
        body: Parameters of the backbone, or of its adapters.
        head: Parameters of the head.
        config: Gives the learning rates.
        beside: Trained densely beside the body, at its rate.

    Returns:
        Groups for any torch optimizer, named `backbone`, `beside`, `head`; empty ones are out.
    """
    config = resolve(config)
    groups = [
        {"name": "backbone", "params": body, "lr": config.lr},
        {"name": "beside", "params": beside or [], "lr": config.lr},
        {"name": "head", "params": head, "lr": config.head_lr},
    ]
    return [group for group in groups if group["params"]]


def adamw(
    body: list[nn.Parameter],
    head: list[nn.Parameter],
    config: RunConfig,
    beside: list[nn.Parameter] | None = None,
) -> AdamW:
    """Make torch's AdamW, in its fused form: the fastest, and without temporaries.

    Args:
        body: Parameters of the backbone, or of its adapters.
        head: Parameters of the head.
        config: Gives learning rates and weight decay.
        beside: Trained densely beside the body, at its rate.

    Returns:
        The optimizer.
    """
    groups = groups_of(body, head, config, beside)
    if not config.loop.decay_vectors:
        groups = [part for group in groups for part in _by_decay(group)]
    return AdamW(groups, weight_decay=config.weight_decay, fused=True)


def _by_decay(group: dict[str, Any]) -> list[dict[str, Any]]:
    """Part a group into what decays and what does not: vectors, and tokens of one row."""
    kept = [p for p in group["params"] if p.numel() == p.shape[-1]]
    ids = {id(p) for p in kept}
    decayed = [p for p in group["params"] if id(p) not in ids]
    parts = [{**group, "params": decayed}, {**group, "params": kept, "weight_decay": 0.0}]
    return [part for part in parts if part["params"]]
