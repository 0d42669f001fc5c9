"""The sampled product by Triton's kernel, where it runs: the torch product is its twin.

The kernel rebuilds LayerNorm and activations on the values it gathers, so on a GPU a layer costs
one launch and reads nothing twice.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from so_optim.sampled.producers import activation_columns, norm_columns
from so_optim.sampled.rebuild import Rebuild, Within, read_gathered

__all__ = ["kernel_product"]

_ACTIVATIONS = {
    "GELU": "gelu",
    "tanh GELU": "gelu_tanh",
    "QuickGELU": "quick_gelu",
    "SiLU": "silu",
}


def kernel_product(
    grad: Tensor, make: Rebuild, tensors: tuple[Tensor, ...], rows: Tensor, cols: Tensor
) -> Tensor:
    """Compute the weight gradient at the support in one launch.

    Args:
        grad: Of the layer's output, shape `(N, m)`.
        make: Rebuilds the layer's input from `tensors`.
        tensors: What the layer saved.
        rows: Shape `(k,)`.
        cols: Shape `(k,)`.

    Returns:
        Shape `(k,)`, fp32 or wider.
    """
    from so_optim.kernels.sddmm import sampled_product_triton

    part = slice(None)
    if isinstance(make, Within):
        part, make = make.part, make.make
    if make is read_gathered:
        cols = torch.arange(len(cols), device=cols.device, dtype=cols.dtype)
    about: dict[str, Any] = {}
    if isinstance(make, partial) and make.func is activation_columns:
        about = {"rebuild": _ACTIVATIONS[make.keywords["name"]]}
    elif isinstance(make, partial) and make.func is norm_columns:
        about = _norm_operands(make.keywords, tensors, part)
    x = tensors[0].flatten(0, -2)[part]
    return sampled_product_triton(grad, x, rows, cols, **about)


def _norm_operands(
    settings: dict[str, Any], tensors: tuple[Tensor, ...], part: slice
) -> dict[str, Any]:
    """What the kernel needs to normalise."""
    _, mean, rstd, *affine = tensors
    scaled = settings["scaled"]
    return {
        "rebuild": "layernorm",
        "mean": mean.flatten()[part],
        "rstd": rstd.flatten()[part],
        "gamma": affine[0] if scaled else None,
        "beta": affine[-1] if len(affine) > scaled else None,
        "dtype": settings["dtype"],
    }
