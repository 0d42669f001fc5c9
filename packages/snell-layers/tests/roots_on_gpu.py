"""Compares the root without branches with the rounded instructions; test_gpu.py calls it."""

import torch
import triton
import triton.language as tl

from snell_layers.kernels.triton_entries import FIXED, inverse_root

__all__ = ["differing"]

SIZE = 1024
FINITE = 0x7F800000


@triton.jit
def compare(count_ptr, first, SIZE: tl.constexpr):
    """Count numbers whose inverse root has other bits than that of the instructions."""
    key = first + tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    q = key.to(tl.float32, bitcast=True)
    wanted = tl.where(q == 0, 0.0, tl.div_rn(1.0, tl.sqrt_rn(tl.where(q == 0, 1.0, q))))
    found = inverse_root(q)
    other = found.to(tl.int32, bitcast=True) != wanted.to(tl.int32, bitcast=True)
    tl.atomic_add(count_ptr, tl.sum((other & (key < 0x7F800000)).to(tl.int32)))


def differing() -> int:
    """How many finite numbers from zero up have another inverse root than one over the root."""
    count = torch.zeros(1, dtype=torch.int32, device="cuda")
    step = 1 << 28
    for first in range(0, FINITE, step):
        compare[(step // SIZE,)](count, first, SIZE=SIZE, **FIXED)
    return int(count)
