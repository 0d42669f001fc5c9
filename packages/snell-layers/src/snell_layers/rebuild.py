r"""Inputs that backward can do without, because a neighbour already keeps what they are made of.

A linear layer after a LayerNorm would save the normalised tokens for its weight gradient; but
LayerNorm keeps its own input, and the tokens can be made again from that. A layer after GELU is in
the same position. So a module that makes such an input leaves a `Recipe` on it, and the adapted
layer behind it saves what the recipe needs, which is in memory anyway, instead of the input.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Recipe", "cast", "is_activation", "leave", "recipe_of", "watch"]

_KNOWN = ("torch.nn.", "timm.", "open_clip.", "transformers.")
_NORMS = ("LayerNorm", "LayerNormFp32")
_ACTIVATIONS = (
    *("GELU", "GELUTanh", "QuickGELU", "SiLU", "ReLU"),
    *("GELUActivation", "PytorchGELUTanh", "NewGELUActivation", "QuickGELUActivation"),
    "SiLUActivation",
)


@dataclass(frozen=True)
class Recipe:
    """How to make a tensor again.

    Attributes:
        tensors: What it is made of; a neighbour keeps these anyway.
        make: Called with `tensors`; gives the tensor, bit for bit.
    """

    tensors: tuple[Tensor, ...]
    make: Callable[..., Tensor]


def watch(model: nn.Module) -> None:
    """Have every LayerNorm and activation of a model leave recipes; again, it changes nothing.

    Args:
        model: Those modules of torch, timm, open_clip and transformers are recognised by class;
            all others, and subclasses that may do more, are left alone.

    Examples:
        >>> import torch
        >>> from snell_layers.rebuild import recipe_of, watch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.GELU())
        >>> watch(model)
        >>> y = model(torch.rand(2, 4))
        >>> recipe = recipe_of(y)
        >>> torch.equal(recipe.make(*recipe.tensors), y)
        True
    """
    for module in model.modules():
        hook = _leave_norm if _is(module, _NORMS) else _leave_activation
        known = _is(module, _NORMS) or is_activation(module)
        if known and hook not in module._forward_hooks.values():
            module.register_forward_hook(hook)


def is_activation(module: nn.Module) -> bool:
    """Whether a module is a known elementwise function without parameters."""
    return _is(module, _ACTIVATIONS)


def recipe_of(x: Tensor) -> Recipe | None:
    """The recipe that was left on a tensor, unless it or its ingredients changed since."""
    found: Any = None if torch.compiler.is_compiling() else getattr(x, "_snell_recipe", None)
    return found[0] if found and found[1] == _versions(x, found[0]) else None


def cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """`x.to(dtype)`, with its recipe."""
    recipe, y = recipe_of(x), x.to(dtype)
    if recipe is None or y is x:
        return y
    return leave(y, Recipe(recipe.tensors, partial(_then_cast, recipe.make, dtype)))


def _then_cast(make: Callable[..., Tensor], dtype: torch.dtype, *tensors: Tensor) -> Tensor:
    """Make a tensor, in another type."""
    return make(*tensors).to(dtype)


def _is(module: nn.Module, names: tuple[str, ...]) -> bool:
    """Whether a module is exactly one of these classes, with the forward of its class."""
    kind = type(module)
    return (
        kind.__name__ in names
        and kind.__module__.startswith(_KNOWN)
        and "forward" not in vars(module)
        and not getattr(module, "inplace", False)
    )


def _leave_norm(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    """Leave how to normalise again: in the type that autocast or the weight asks for."""
    x, weight, bias = inputs[0], module.weight, module.bias
    lowered = torch.is_autocast_enabled(x.device.type) or type(module).__name__ == "LayerNormFp32"
    wide = torch.float32 if lowered else x.dtype if weight is None else weight.dtype
    affine = tuple(t.detach() for t in (weight, bias) if t is not None)
    again = partial(
        _normalise,
        shape=module.normalized_shape,
        eps=module.eps,
        wide=wide,
        dtype=output.dtype,
        has_weight=weight is not None,
    )
    leave(output, Recipe((x.detach(), *affine), again))


def _normalise(
    x: Tensor,
    *affine: Tensor,
    shape: tuple[int, ...],
    eps: float,
    wide: torch.dtype,
    dtype: torch.dtype,
    has_weight: bool,
) -> Tensor:
    """LayerNorm, from its input, its weight and its bias."""
    weight = affine[0].to(wide) if has_weight else None
    bias = affine[-1].to(wide) if len(affine) > has_weight else None
    return F.layer_norm(x.to(wide), shape, weight, bias, eps).to(dtype)


def _leave_activation(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    """Leave how to apply an activation again; it has no parameters."""
    if (
        recipe_of(output) is None
    ):  # from an input that is computed again, too, there is a better one
        leave(output, Recipe((inputs[0].detach(),), module.forward))


def leave(output: Tensor, recipe: Recipe) -> Tensor:
    """Leave a recipe on a tensor; a compiled graph plans its backward pass by itself."""
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        made: Any = output
        made._snell_recipe = (recipe, _versions(output, recipe))
    return output


def _versions(output: Tensor, recipe: Recipe) -> list[int]:
    """How often a tensor and its ingredients were changed in place."""
    return [-1 if t.is_inference() else t._version for t in (output, *recipe.tensors)]
