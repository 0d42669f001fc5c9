r"""A convolution over patches that do not overlap is a linear layer on patches.

With kernel equal to stride, $y = W\,\mathrm{patch}(x)$ for every patch, so the gradient at the
support is the sampled product of the output gradients with the patches, which are a view of the
image.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from so_optim.sampled.gathered import samples
from so_optim.sampled.linear import at_support, lowered
from so_optim.sampled.rebuild import read

__all__ = ["cuts_patches", "sampled_patches"]


def cuts_patches(module: nn.Module) -> bool:
    """Tell whether a convolution cuts its image into patches that do not overlap.

    Args:
        module: Any module.

    Returns:
        True for a `Conv2d` with kernel = stride and no padding, groups or dilation.
    """
    return (
        isinstance(module, nn.Conv2d)
        and module.kernel_size == module.stride
        and module.padding in ((0, 0), "valid")
        and module.dilation == (1, 1)
        and module.groups == 1
    )


def sampled_patches(
    image: Tensor, weight: Tensor, bias: Tensor | None, values: Tensor, rows: Tensor, cols: Tensor
) -> Tensor:
    """Apply a patch embedding whose weight gradient is computed at the support.

    Args:
        image: Shape `(B, c, H, W)`, or `(c, H, W)`.
        weight: Frozen, shape `(m, c, p, q)`.
        bias: Shape `(m,)` or None.
        values: The compact leaf, shape `(k,)`, zeros.
        rows: Output channel of each entry, shape `(k,)`.
        cols: Flat position of each entry in `(c, p, q)`, shape `(k,)`.

    Returns:
        Shape `(B, m, H // p, W // q)`, or without `B`.
    """
    image = lowered(image)
    if image.dim() == 3:
        return sampled_patches(image[None], weight, bias, values, rows, cols)[0]
    if not samples(weight, values):
        return F.conv2d(image, weight, bias, weight.shape[2:])
    return SampledPatches.apply(image, weight, bias, values, rows, cols)


class SampledPatches(torch.autograd.Function):
    """`sampled_patches` for autograd."""

    @staticmethod
    def forward(
        image: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        values: Tensor,
        rows: Tensor,
        cols: Tensor,
    ) -> Tensor:
        """Convolve."""
        bias = None if bias is None else bias.to(image.dtype)
        with torch.autocast(image.device.type, enabled=False):
            return F.conv2d(image, weight.to(image.dtype), bias, weight.shape[2:])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the image, the weight and the support."""
        image, weight, bias, values, rows, cols = inputs
        ctx.save_for_backward(image, weight, rows, cols)
        ctx.dtypes = (None if bias is None else bias.dtype, values.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    # pyrefly: ignore[bad-override]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the image, the bias and the leaf."""
        image, weight, rows, cols = ctx.saved_tensors
        bias_dtype, dtype = ctx.dtypes
        needs_image, _, needs_bias, needs_values = ctx.needs_input_grad[:4]
        size = weight.shape[2:]
        d_image = d_bias = d_values = None
        with torch.autocast(grad.device.type, enabled=False):
            if needs_image:
                d_image = nn.grad.conv2d_input(image.shape, weight.to(grad.dtype), grad, size)
            if needs_bias:
                d_bias = grad.sum((0, 2, 3), dtype=bias_dtype)
            if needs_values:
                patches = _patches(image, size)
                flat = grad.permute(0, 2, 3, 1).flatten(0, -2)
                d_values = at_support(
                    flat, read, (patches,), rows, cols, whole_width=patches.shape[-1]
                ).to(dtype)
        return d_image, None, d_bias, d_values, None, None


def _patches(image: Tensor, size: torch.Size) -> Tensor:
    """Patches as rows, shape `(B * h * w, c * p * q)`; pixels beyond the last one are left out."""
    (height, width), (p, q) = image.shape[2:], size
    h, w = height // p, width // q
    cut = image[:, :, : h * p, : w * q].unflatten(3, (w, q)).unflatten(2, (h, p))
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(image.shape[0] * h * w, image.shape[1] * p * q)
