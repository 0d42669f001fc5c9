r"""The opponent of the dynamic mask: KLoRA with a mask that is chosen once, before training.

The entries that may move are those to which the loss is most sensitive: the largest sums of squared
gradients over one pass of the training batches, as in SPT (arXiv 2303.08566), whose mask table A10
of SNELL's paper compares with. Here the share is the same in every weight. Plain autograd with the
whole update in memory: made to be compared with, not to be fast.
"""

import math
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F

from fewshot_bench.config import RunConfig
from fewshot_bench.seeds import derive
from fewshot_bench.trainable import adamw
from fewshot_bench.tuned import Tuned

if TYPE_CHECKING:
    from snell_layers.factors import SnellFactors
    from vision_backbones import Backbone

__all__ = ["MaskedLinear", "fixed_mask"]

Batch = dict[str, torch.Tensor]

HEAD_STD = 0.02
"""Of the head during the survey: one that starts at zero hands no gradient down."""


class MaskedLinear(nn.Module):
    r"""A frozen linear layer with the entries of an update that a mask lets through.

    $$y = x\,(W + M \circ \kappa(inner, outer))^\top + b$$

    Until a mask is chosen it lets nothing through.

    Args:
        base: The layer.
        factors: `SnellFactors` of that layer at sparsity 0, so that they give all of $\kappa$.
    """

    mask: torch.Tensor

    def __init__(self, base: nn.Linear, factors: "SnellFactors") -> None:
        super().__init__()
        self.base, self.factors = base, factors
        self.register_buffer("mask", torch.zeros_like(base.weight, dtype=torch.bool))

    def delta_weight(self) -> torch.Tensor:
        """The masked update `(out_features, in_features)`, differentiable."""
        weight = self.base.weight
        one = torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)
        return self.mask * self.factors(one).mT

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(..., in_features)` to `(..., out_features)`."""
        return F.linear(x, self.base.weight + self.delta_weight(), self.base.bias)


def fixed_mask(backbone: "Backbone", config: RunConfig, klora: nn.Module) -> Tuned:
    """Add masked updates to every linear layer of the blocks; the mask waits for the survey.

    Args:
        backbone: Changed in place.
        config: Gives the sparsity and the seed.
        klora: PEFT's model of KLoRA on a copy of the backbone, whose factors are taken over: they
            start as those of the dynamic mask do.

    Returns:
        Model, optimizer and the survey that chooses the masks.
    """
    backbone.requires_grad_(False)
    layers = []
    for name, linear in backbone.linears().items():
        factors: Any = klora.get_submodule(f"base_model.model.{name}.snell_factors.default")
        layers.append(MaskedLinear(linear, factors))
        parent, _, child = name.rpartition(".")
        setattr(backbone.get_submodule(parent), child, layers[-1])
    body = [p for layer in layers for p in layer.factors.parameters()]
    head = list(backbone.head.requires_grad_(True).parameters())
    survey = partial(_choose_masks, backbone, layers, config)
    return Tuned(backbone, adamw(body, head, config), survey=survey)


def _choose_masks(
    backbone: "Backbone", layers: list[MaskedLinear], config: RunConfig, batches: Iterable[Batch]
) -> None:
    """Keep the entries of each piece of a weight to which the loss is most sensitive."""
    sums = _squared_gradients(backbone, [layer.base.weight for layer in layers], config, batches)
    for layer, squares in zip(layers, sums, strict=True):
        pieces = squares.view(layer.factors.pieces, -1)
        count = pieces.shape[1]
        kept = count - math.ceil(config.snell.sparsity * count)
        order = pieces.sort(dim=1, descending=True, stable=True).indices
        layer.mask.view(pieces.shape).zero_().scatter_(1, order[:, :kept], True)


def _squared_gradients(
    backbone: "Backbone", weights: list[torch.Tensor], config: RunConfig, batches: Iterable[Batch]
) -> list[torch.Tensor]:
    """Add up the squared gradient of every batch's loss; head and flags stay as they were."""
    training = backbone.training
    sums = [torch.zeros_like(weight) for weight in weights]
    head = list(backbone.head.parameters())
    before = [parameter.detach().clone() for parameter in head]
    generator = torch.Generator().manual_seed(derive(config.seed).init)
    with torch.no_grad():
        for parameter in head:
            parameter.copy_(HEAD_STD * torch.randn(parameter.shape, generator=generator))
    for weight in weights:
        weight.requires_grad_(True)
    backbone.eval()
    for batch in batches:
        loss = F.cross_entropy(backbone(batch), batch["label"])
        for total, gradient in zip(sums, torch.autograd.grad(loss, weights), strict=True):
            total += gradient.square()
    backbone.train(training)
    for weight in weights:
        weight.requires_grad_(False)
    with torch.no_grad():
        for parameter, value in zip(head, before, strict=True):
            parameter.copy_(value)
    return sums
