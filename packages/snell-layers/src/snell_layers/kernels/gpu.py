"""Build and fold an update with Triton on a GPU; the twin is `snell_layers.update`.

Nothing waits for the device: thresholds stay on it, and the number of launches is fixed.
"""

import functools
import importlib.util

import torch
from torch import Tensor

from snell_layers.rule import SnellRule
from snell_layers.sparsify import removed_entries
from snell_layers.update import Factors

__all__ = ["build", "fold", "runs"]

WRITTEN = (torch.float32, torch.bfloat16)
"""Types of the matrix; for float16 the caller scales it first, see `snell_layers.product`."""
POINTS = 256
"""The most heads times dims that the kernels are meant for."""


def runs(factors: Factors, rule: SnellRule, *matrices: Tensor | None) -> bool:
    """Whether this update, and matrices of its size, can be handed to the Triton kernels."""
    inner = factors[0]
    given = [t for t in (*factors, *matrices) if t is not None]
    return (
        rule.kernel == "piecewise_linear"
        and inner.dtype == torch.float32
        and inner.shape[1] * inner.shape[3] <= POINTS
        and all(type(t) in (Tensor, torch.nn.Parameter) for t in given)
        and all(t.device == inner.device and t.is_floating_point() for t in given)
        and _compiles_for(inner.device)
    )


def build(
    factors: Factors,
    rule: SnellRule,
    *,
    weight: Tensor | None = None,
    threshold: Tensor | None = None,
    hint: Tensor | None = None,
    scale: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """As `snell_layers.update.build`, with a matrix of one of the types in `WRITTEN`."""
    from .triton_merge import merge_triton
    from .triton_select import threshold_triton

    inner, outer, scales = _contiguous(factors)
    rows, columns = outer.shape[-2], inner.shape[-2]
    out = inner.new_empty(len(inner) * rows, columns, dtype=dtype)
    entries = None
    if threshold is None:
        removed = removed_entries(rule.sparsity, rows * columns)
        near = None if hint is None else hint.to(inner.dtype).contiguous()
        if removed:  # the matrix itself has room for them, if its type has
            entries = out if out.dtype == inner.dtype else torch.empty_like(out, dtype=inner.dtype)
        threshold = threshold_triton(inner, outer, scales, removed, hint=near, entries=entries)
    settings = inner, outer, scales, threshold, _rows(weight), _gate(rule)
    merge_triton(*settings, out, factor=scale, entries=entries)
    return out, threshold


def fold(
    grad: Tensor,
    factors: Factors,
    rule: SnellRule,
    threshold: Tensor,
    *,
    weight: Tensor | None = None,
    scale: float = 1.0,
    replace: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """As `snell_layers.update.fold`; what replaces a gradient has its type."""
    from .triton_fold import fold_triton

    settings = *_contiguous(factors), threshold, _gate(rule)
    # What is written over must be the gradient itself.
    matrix = grad if replace else _neighbours(grad)
    return fold_triton(matrix, *settings, factor=scale, weight=_rows(weight), replace=replace)


@functools.cache
def _compiles_for(device: torch.device) -> bool:
    """Whether Triton is installed and has a compiler (or its interpreter) for a device."""
    if device.type not in ("cuda", "cpu") or importlib.util.find_spec("triton") is None:
        return False
    from .triton_entries import available

    return available(device)


def _gate(rule: SnellRule) -> str:
    """The sparsifier in use."""
    return "none" if rule.sparsity == 0 else rule.sparsifier


def _contiguous(factors: Factors) -> Factors:
    """Factors as the kernels read them."""
    inner, outer, scales = factors
    return inner.contiguous(), outer.contiguous(), None if scales is None else scales.contiguous()


def _neighbours(matrix: Tensor) -> Tensor:
    """A matrix whose columns lie side by side."""
    return matrix if matrix.stride(1) == 1 else matrix.contiguous()


def _rows(weight: Tensor | None) -> Tensor | None:
    """A weight, if there is one, whose columns lie side by side."""
    return None if weight is None else _neighbours(weight)
