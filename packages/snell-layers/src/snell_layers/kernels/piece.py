"""One update's factors as the compiled kernels read them, and the threads that share its rows."""

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from .compile import library

__all__ = ["HEADS", "POINTS", "TYPES", "Piece", "call", "shares", "together"]

TYPES = {torch.float32: "f32", torch.float64: "f64"}
HEADS, POINTS = 8, 256
"""The most heads, and heads times dims, that the kernels hold on their stack."""
BLOCK, LINE = 32, 16
"""Columns of a block and numbers of a cache line in float32; float64 needs half of each."""
SMALL = 1 << 16
"""Entries for which a second thread is not worth waking."""


class Piece:
    """Pointers and sizes of one update.

    Args:
        inner: `(heads, n, dims)`.
        outer: `(heads, m, dims)`.
        scales: Trained coefficients, `(heads,)`, or `None`.
    """

    def __init__(self, inner: Tensor, outer: Tensor, scales: Tensor | None) -> None:
        self.heads, self.columns, self.dims = inner.shape
        self.rows = outer.shape[1]
        whole = -(-self.columns // BLOCK) * BLOCK
        # An odd number of cache lines: rows of points at a power of two push each other out.
        self.padded = whole + LINE if whole // LINE % 2 == 0 else whole
        self.points = inner.new_zeros(self.heads, self.dims, self.padded)
        self.points[..., : self.columns] = inner.mT
        self.outer = outer.contiguous()
        self.scales = None if scales is None else scales.contiguous()

    def call(self, name: str, *arguments: Tensor | float | None) -> None:
        """Call a kernel with the factors and further arguments."""
        sizes = (self.heads, self.dims, self.columns, self.rows, self.padded)
        every = (self.points, self.outer, self.scales, *sizes, *arguments)
        call(name, self.points.dtype, *every)


def call(name: str, dtype: torch.dtype, *arguments: Tensor | float | None) -> None:
    """Call a function of the library: tensors are passed as pointers, fractions as doubles."""
    getattr(library(), f"snell_{name}_{TYPES[dtype]}")(*map(_as_c, arguments))


def shares(rows: int, entries: int) -> list[tuple[int, int]]:
    """Cut rows into one range for each of torch's threads, or one where that is too little work."""
    count = 1 if entries < SMALL else min(torch.get_num_threads(), rows)
    return [(rows * i // count, rows * (i + 1) // count) for i in range(count)]


def together(work: Callable[..., None], ranges: list[tuple[int, int]]) -> None:
    """Do the work on every range, each in a thread of its own; the kernels let go of Python."""
    if len(ranges) == 1:
        work(0, *ranges[0])
        return
    with ThreadPoolExecutor(len(ranges)) as pool:
        list(pool.map(lambda number: work(number, *ranges[number]), range(len(ranges))))


def _as_c(value: Any) -> Any:
    """An argument as C takes it."""
    if isinstance(value, Tensor):
        return ctypes.c_void_p(value.data_ptr())
    return ctypes.c_double(value) if isinstance(value, float) else _integer(value)


def _integer(value: int | None) -> Any:
    """A 64-bit integer, or a null pointer."""
    return None if value is None else ctypes.c_int64(value)
