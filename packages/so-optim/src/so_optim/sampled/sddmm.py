r"""The sampled dense-dense product: a weight gradient at its support, and nowhere else.

A linear layer $y = x W^\top$ has $\nabla W = \mathrm{d}y^\top x$, a product of a tall matrix with a
tall matrix. Of its $mn$ entries SO needs $k$, so $k$ dot products are computed instead:

$$(\nabla W)_{ij} = \sum_{b=1}^{N} \mathrm{d}y_{bi}\, x_{bj}, \qquad (i, j) \in S.$$

Columns are gathered for a few tokens at a time, so that what is gathered stays in the cache and no
`(N, k)` tensor ever exists.
"""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["DENSE_ABOVE", "ColumnReader", "accumulator", "sampled_product"]

ColumnReader = Callable[[slice, Tensor], Tensor]
"""Gives rows `part` of the layer's input at columns `cols`, shape `(rows, k)`."""

DENSE_ABOVE = 0.015
"""Density from which one dense product beats gathering `k` columns (measured on a CPU)."""

_CACHED = 128 * 1024  # gathered elements at a time on a CPU: half a megabyte, inside the L2 cache
_LAUNCHED = 32 * 1024 * 1024  # and on a GPU, where each chunk costs launches


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """Dtype in which a sum over tokens is kept.

    Args:
        dtype: Of the gradients that are summed.

    Returns:
        fp32, or fp64 for fp64.
    """
    return torch.promote_types(dtype, torch.float32)


def sampled_product(grad: Tensor, read: ColumnReader, rows: Tensor, cols: Tensor) -> Tensor:
    r"""Compute $\sum_b \mathrm{d}y_{b,i_e}\, x_{b,j_e}$ for every entry $e$ of the support.

    Args:
        grad: $\mathrm{d}y$, shape `(N, m)`.
        read: Reads columns of $x$, shape `(N, n)`, which need not exist as a tensor.
        rows: $i_e$, shape `(k,)`.
        cols: $j_e$, shape `(k,)`.

    Returns:
        Shape `(k,)`, fp32 or wider.

    Examples:
        >>> dy, x = torch.randn(5, 3), torch.randn(5, 4)
        >>> rows, cols = torch.tensor([0, 2]), torch.tensor([3, 1])
        >>> at_support = sampled_product(dy, lambda part, j: x[part, j], rows, cols)
        >>> torch.allclose(at_support, (dy.T @ x)[rows, cols], atol=1e-5)
        True
    """
    wide = accumulator(grad.dtype)
    total = torch.zeros(len(rows), dtype=wide, device=grad.device)
    for part in _parts(len(grad), len(rows), grad.device):
        left = grad[part].index_select(1, rows).to(wide)
        total += left.mul_(read(part, cols).to(wide)).sum(0)
    return total


def _parts(tokens: int, k: int, device: torch.device) -> list[slice]:
    """Cut the tokens into chunks; a compiler fuses the gathers and needs none."""
    if torch.compiler.is_compiling():
        return [slice(0, tokens)]
    room = _CACHED if device.type == "cpu" else _LAUNCHED
    size = max(32, min(tokens, room // max(1, k)))
    return [slice(start, start + size) for start in range(0, tokens, size)]
