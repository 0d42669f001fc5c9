"""Matrix products as an adapted layer needs them: in the types the layer chose, and by samples."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["full_precision", "split_product", "times", "weight_gradient"]


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """Context in which autocast leaves these products alone; the layer has already chosen types."""
    device = x.device.type
    if not torch.amp.is_autocast_available(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)


def times(x: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x @ matrix + bias`, `(..., n)` times `(n, m)`, in the type of `x`.

    For float16 the matrix is scaled by a power of two and back: an update starts near 1e-6, where
    float16 keeps four bits.
    """
    if x.dtype != torch.float16:
        return F.linear(x, matrix.mT.to(x.dtype), bias)
    exponent = torch.frexp(matrix.abs().amax()).exponent
    scaled = torch.ldexp(matrix, -exponent).to(x.dtype)
    y = torch.ldexp((x @ scaled).float(), exponent)
    return (y if bias is None else y + bias).to(x.dtype)


def split_product(
    x: Tensor, split: tuple[Tensor, ...], merged: Tensor, weight: Tensor | None
) -> Tensor:
    """`x @ merged` for the samples of the first half, `x @ weight` for those of the second.

    Without `weight` the second half gets zeros.
    """
    on, off = split
    y = x.new_zeros(*x.shape[:-1], merged.shape[-1])
    y.index_copy_(0, on, times(x.index_select(0, on), merged))
    if weight is not None:
        y.index_copy_(0, off, times(x.index_select(0, off), weight))
    return y


def weight_gradient(grad_y: Tensor, x: Tensor, samples: Tensor | None = None) -> Tensor:
    r"""$G = dY^\top X$ `(m, n)`, over all samples or some."""
    if samples is not None:
        grad_y, x = grad_y.index_select(0, samples), x.index_select(0, samples)
    return grad_y.reshape(-1, grad_y.shape[-1]).mT @ x.reshape(-1, x.shape[-1])
