"""Where the update is built and folded: by compiled code where it runs, by torch everywhere else.

The torch path (`snell_layers.update`) is the twin of the others and needs nothing: it serves every
kernel, type and device, and whatever traces or simulates. `SNELL_KERNELS=off` in the environment,
or `use(False)`, leaves it alone on the field.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from snell_layers import update
from snell_layers.rule import SnellRule
from snell_layers.update import Factors

from . import cpu, gpu, values
from .values import pick_values

__all__ = ["available", "build", "fold", "pick_values", "reads", "replaces", "use"]

_enabled = os.environ.get("SNELL_KERNELS", "auto") != "off"


@contextmanager
def use(enabled: bool) -> Iterator[None]:
    """Compute with or without compiled code inside this context, in all threads.

    Args:
        enabled: Whether compiled code may be used where it runs.

    Examples:
        >>> from snell_layers import kernels
        >>> with kernels.use(False):
        ...     kernels.available()
        False
    """
    global _enabled
    before, _enabled = _enabled, enabled
    try:
        yield
    finally:
        _enabled = before


def available() -> bool:
    """Whether compiled code for this processor is in use; asking has it compiled."""
    return _enabled and cpu.library() is not None


def reads(numbers: Tensor) -> bool:
    """Whether `pick_values` can be used for them."""
    return _enabled and not torch.compiler.is_compiling() and values.runs(numbers)


def build(
    factors: Factors,
    rule: SnellRule,
    *,
    weight: Tensor | None = None,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """`snell_layers.update.build`, by whatever is fastest here.

    `dtype` is what the caller casts the matrix to: written at once, and rounded once, where that
    can be done.
    """
    path = _path(factors, rule, weight)
    if path is gpu and dtype in gpu.WRITTEN:
        options["dtype"] = dtype
    return path.build(factors, rule, weight=weight, **options)


def replaces(grad: Tensor, factors: Factors, rule: SnellRule, weight: Tensor | None) -> bool:
    """Whether `fold` can write the matrix over its gradient, as `build` makes it for that type."""
    if _path(factors, rule, grad, weight) is gpu:
        return grad.dtype in gpu.WRITTEN and grad.stride(1) == 1
    return all(t is None or t.dtype == grad.dtype for t in (*factors, weight))


def fold(
    grad: Tensor,
    factors: Factors,
    rule: SnellRule,
    threshold: Tensor,
    *,
    weight: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """`snell_layers.update.fold`, by whatever is fastest here."""
    path = _path(factors, rule, grad, weight)
    return path.fold(grad, factors, rule, threshold, weight=weight, **options)


def _path(factors: Factors, rule: SnellRule, *matrices: Tensor | None) -> Any:
    """The module that does the work."""
    if not _enabled or torch.compiler.is_compiling():
        return update
    compiled = cpu if factors[0].device.type == "cpu" else gpu
    return compiled if compiled.runs(factors, rule, *matrices) else update
