r"""Activations that keep nothing: what they are made from is computed again in backward.

An MLP keeps the input of its activation, four widths per token, which is two fifths of what a block
of a frozen transformer keeps. An adapted layer before the activation can compute it again, from a
LayerNorm's input that is kept anyway, for one product more: about a ninth of a step.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .factors import SnellFactors
from .rebuild import Recipe, is_activation, leave, recipe_of, watch

__all__ = ["MEMORY", "save_memory"]

MEMORY = ("free", "low")
"""Levels, from the one that costs next to no time to the one that keeps less."""


def save_memory(model: nn.Module, level: str = "free") -> None:
    """Have the adapted layers of a model keep as little for backward as a level says.

    Args:
        model: Has `SnellLinear` layers or adapters of PEFT. LayerNorms and activations of torch,
            timm, open_clip and transformers are recognised; whatever else stands between layers
            keeps what it always kept.
        level: `"free"`: outputs of LayerNorm and activations are made again from their inputs,
            elementwise. `"low"`: the input of an activation behind an adapted layer, too, with one
            product more for each.

    Raises:
        ValueError: If there is no such level.

    Examples:
        >>> import torch
        >>> from snell_layers import SnellLinear
        >>> from snell_layers.recompute import save_memory
        >>> model = torch.nn.Sequential(
        ...     torch.nn.LayerNorm(8), SnellLinear(torch.nn.Linear(8, 32), 4), torch.nn.GELU()
        ... )
        >>> save_memory(model, "low")
        >>> model(torch.rand(2, 8)).sum().backward()
    """
    if level not in MEMORY:
        raise ValueError(f"unknown memory {level!r}: known: {', '.join(MEMORY)}")
    for module in model.modules():
        if isinstance(module, SnellFactors):
            module.again = level == "low"
        if level == "low" and is_activation(module):
            _hook(module)
    watch(model)


def _hook(module: nn.Module) -> None:
    """Put the two halves around an activation, once; the second before all other hooks."""
    if _set_aside not in module._forward_pre_hooks.values():
        module.register_forward_pre_hook(_set_aside)
        module.register_forward_hook(_connect, prepend=True)


def _set_aside(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Have the activation run outside the graph, if its input can be made again."""
    waiting: Any = module
    waiting._snell_waiting = None
    recipe = recipe_of(inputs[0])
    if recipe is None or not (torch.is_grad_enabled() and inputs[0].requires_grad):
        return None
    waiting._snell_waiting = inputs[0], Recipe(recipe.tensors, _Shared(recipe))
    return (inputs[0].detach(), *inputs[1:])


def _connect(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
    """Put the output into the graph, by a node that keeps what its input is made from."""
    waiting: Any = module
    held, waiting._snell_waiting = getattr(waiting, "_snell_waiting", None), None
    if held is None:
        return None
    x, recipe = held
    y = _Activation.apply(x, output, module.forward, recipe.make, *recipe.tensors)
    return leave(y, Recipe(recipe.tensors, partial(_then, module.forward, recipe.make)))


class _Shared:
    """Makes a tensor once for two users: the layer behind the activation, then the activation."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.made: Tensor | None = None

    def __call__(self, *tensors: Tensor) -> Tensor:
        if self.made is None:
            self.made = self.recipe.make(*tensors)
        return self.made

    def last(self, *tensors: Tensor) -> Tensor:
        """For the user that comes last."""
        made, self.made = self(*tensors), None
        return made


def _then(function: Any, make: Any, *tensors: Tensor) -> Tensor:
    """Apply an activation to what a recipe makes."""
    return function(make(*tensors))


class _Activation(torch.autograd.Function):
    """An activation, computed already, whose input is made again for its slope."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, function: Any, make: _Shared, *tensors: Tensor
    ) -> Tensor:
        ctx.save_for_backward(*tensors)
        ctx.function, ctx.make = function, make
        return y.view_as(y)

    @staticmethod
    @once_differentiable
    # pyrefly: ignore[bad-override]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x = ctx.make.last(*ctx.saved_tensors).detach().requires_grad_()
        with torch.enable_grad():
            (grad,) = torch.autograd.grad(ctx.function(x), x, grads[0])
        return grad, *[None] * (len(ctx.needs_input_grad) - 1)
