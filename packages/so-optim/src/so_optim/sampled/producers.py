r"""Layers that leave a recipe behind: LayerNorm and the elementwise activations.

They compute what they always did. QuickGELU alone computes it differently: written as
`x * sigmoid(1.702 * x)` autograd keeps two tensors of its size, as one function it keeps its input.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from so_optim.sampled.rebuild import Recipe, with_recipe

__all__ = [
    "ACTIVATIONS",
    "SLOPES",
    "activate",
    "activation_columns",
    "activation_of",
    "is_plain_norm",
    "norm",
    "norm_columns",
]

_KNOWN = ("torch.nn.", "timm.", "open_clip.", "transformers.")


class QuickGELU(torch.autograd.Function):
    r"""$x\,\sigma(1.702x)$, keeping $x$ alone; its slope is $s + 1.702\,x\,s(1-s)$."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        """Value."""
        return x * torch.sigmoid(1.702 * x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """Keep the input."""
        ctx.save_for_backward(*inputs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    # pyrefly: ignore[bad-override]
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """Slope times gradient."""
        return quick_gelu_backward(grad, *ctx.saved_tensors)


def quick_gelu_backward(grad: Tensor, x: Tensor) -> Tensor:
    r"""Gradient of QuickGELU's input.

    Args:
        grad: Of its output, any shape.
        x: Its input, same shape.

    Returns:
        $\mathrm{d}y\,(s + 1.702\,x\,s(1-s))$ with $s = \sigma(1.702x)$.
    """
    s = torch.sigmoid(1.702 * x)
    return (1 - s).mul_(x).mul_(1.702).add_(1).mul_(s).mul_(grad)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "GELU": F.gelu,
    "tanh GELU": partial(F.gelu, approximate="tanh"),
    "QuickGELU": QuickGELU.apply,
    "SiLU": F.silu,
}
"""Elementwise functions by name; each keeps its input for backward and nothing else."""

_gelu_backward = torch.ops.aten.gelu_backward

SLOPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "GELU": _gelu_backward,
    "tanh GELU": partial(_gelu_backward, approximate="tanh"),
    "QuickGELU": quick_gelu_backward,
    "SiLU": torch.ops.aten.silu_backward,
}
"""Their backward passes, called with the output's gradient and the input."""

_CLASSES = {
    "GELU": "GELU",
    "GELUActivation": "GELU",
    "GELUTanh": "tanh GELU",
    "PytorchGELUTanh": "tanh GELU",
    "NewGELUActivation": "tanh GELU",
    "QuickGELU": "QuickGELU",
    "QuickGELUActivation": "QuickGELU",
    "SiLU": "SiLU",
    "SiLUActivation": "SiLU",
}


def activation_of(module: nn.Module) -> str | None:
    """Name the function of an activation module.

    Args:
        module: Of torch, timm, open_clip or transformers.

    Returns:
        A key of `ACTIVATIONS`, or None if it is something else.
    """
    kind = type(module)
    if not kind.__module__.startswith(_KNOWN) or "forward" in module.__dict__:
        return None
    name = _CLASSES.get(kind.__name__)
    return "tanh GELU" if name == "GELU" and getattr(module, "approximate", "") == "tanh" else name


def is_plain_norm(module: nn.Module) -> bool:
    """Tell whether a module is LayerNorm over the last dimension, as everybody writes it.

    Args:
        module: Any module.

    Returns:
        True for torch's own and the wrappers of timm, open_clip and transformers.
    """
    return (
        isinstance(module, nn.LayerNorm)
        and type(module).__module__.startswith(_KNOWN)
        and type(module).__name__ in ("LayerNorm", "LayerNormFp32")
        and len(module.normalized_shape) == 1
        and "forward" not in module.__dict__
    )


def activate(x: Tensor, name: str) -> Tensor:
    """Apply an activation and leave its recipe.

    Args:
        x: Any shape.
        name: Key of `ACTIVATIONS`.

    Returns:
        Same shape.
    """
    return with_recipe(
        ACTIVATIONS[name](x), Recipe(f"{name} input", (x,), partial(activation_columns, name=name))
    )


def norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, *, casts_back: bool = False
) -> Tensor:
    r"""Normalise over the last dimension, $\gamma (x - \mu) / \sigma + \beta$, leaving the recipe.

    Args:
        x: Shape `(..., n)`.
        weight: $\gamma$, shape `(n,)`, or None for ones.
        bias: $\beta$, shape `(n,)`, or None for zeros.
        eps: Added to the variance.
        casts_back: Return the dtype of `x` under autocast too, where LayerNorm gives fp32.

    Returns:
        Same shape and dtype as `x`, except under autocast.
    """
    lowered = torch.is_autocast_enabled(x.device.type)
    dtype = torch.float32 if lowered else x.dtype if weight is None else weight.dtype
    wide = x.to(dtype)  # the tensor that LayerNorm keeps, so that the recipe keeps the same one
    out, mean, rstd = torch.native_layer_norm(wide, wide.shape[-1:], weight, bias, eps)
    out = out if lowered and not casts_back else out.to(x.dtype)
    tensors = tuple(t for t in (wide, mean, rstd, weight, bias) if t is not None)
    make = partial(norm_columns, eps=eps, dtype=out.dtype, scaled=weight is not None)
    return with_recipe(out, Recipe("LayerNorm input", tensors, make))


def activation_columns(
    tensors: tuple[Tensor, ...], part: slice, cols: Tensor | None, *, name: str
) -> Tensor:
    """Read columns of an activation's output.

    Args:
        tensors: The activation's input alone, shape `(..., n)`.
        part: Tokens, counted over all leading dimensions.
        cols: Columns, shape `(k,)`, or None for all.
        name: Key of `ACTIVATIONS`.

    Returns:
        Shape `(tokens, k)`.
    """
    x = tensors[0].flatten(0, -2)[part]
    function = ACTIVATIONS[name]
    if cols is None or len(cols) >= x.shape[1]:
        whole = function(x)
        return whole if cols is None else whole.index_select(1, cols)
    return function(x.index_select(1, cols))


def norm_columns(
    tensors: tuple[Tensor, ...],
    part: slice,
    cols: Tensor | None,
    *,
    eps: float,
    dtype: torch.dtype,
    scaled: bool,
) -> Tensor:
    """Read columns of LayerNorm's output.

    Args:
        tensors: Its input, mean and inverse deviation, then weight and bias where there are any.
        part: Tokens, counted over all leading dimensions.
        cols: Columns, shape `(k,)`, or None for all.
        eps: Added to the variance.
        dtype: Of its output.
        scaled: Whether it has a weight.

    Returns:
        Shape `(tokens, k)`.
    """
    x, mean, rstd, *affine = tensors
    weight, bias = (affine[0] if scaled else None), (affine[-1] if len(affine) > scaled else None)
    rows = x.flatten(0, -2)[part]
    if cols is None or len(cols) >= rows.shape[1]:
        whole = F.layer_norm(rows, rows.shape[-1:], weight, bias, eps).to(dtype)
        return whole if cols is None else whole.index_select(1, cols)
    out = rows.index_select(1, cols).sub_(mean.view(-1, 1)[part]).mul_(rstd.view(-1, 1)[part])
    out = out if weight is None else out.mul_(weight[cols])
    return (out if bias is None else out.add_(bias[cols])).to(dtype)
