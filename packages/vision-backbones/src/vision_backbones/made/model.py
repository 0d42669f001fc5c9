"""A small model of a library with random weights everywhere, and its pretraining head."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from vision_backbones.catalog import BackboneSpec
from vision_backbones.families import FAMILIES
from vision_backbones.seeding import seeded

State = dict[str, torch.Tensor]
CLASSES = 7  # of the pretraining task, 21,841 in ImageNet-22k


def random_model(spec: BackboneSpec, seed: int) -> Any:
    """The library's module; no weight is left at a constant, so that none can be confused.

    Args:
        spec: The backbone.
        seed: Seed of the weights.

    Returns:
        The module in evaluation mode.
    """
    with seeded(seed):
        model = FAMILIES[spec.family].build(spec, False)
    stir(model, seed)
    return model.eval()


def stir(model: nn.Module, seed: int) -> None:
    """Add noise to every parameter, which takes biases and scales off their constants.

    Args:
        model: Changed in place.
        seed: Seed of the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)


def classifier(width: int, weight: str = "head.weight", bias: str = "head.bias") -> State:
    """The weights of a pretraining task's classifier.

    Args:
        width: Length of a feature vector.
        weight: Name of the weight.
        bias: Name of the bias.

    Returns:
        Two tensors by name.
    """
    return {weight: torch.full((CLASSES, width), 0.5), bias: torch.zeros(CLASSES)}
