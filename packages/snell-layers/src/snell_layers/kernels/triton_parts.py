r"""Parts of the sums of a fold: many numbers as one tensor, and all parts of a number added up.

Import this module where it is needed and only where Triton is installed.
"""

import triton
import triton.language as tl

__all__ = ["add_parts", "joined"]


@triton.jit
def joined(tensors, count: tl.constexpr, WIDTH: tl.constexpr):
    """Some tensors as one with a last dimension of WIDTH, a power of two; zeros fill it up."""
    level = tensors
    for _ in tl.static_range(count, WIDTH):
        level += (tl.zeros(tensors[0].shape, tl.float32),)
    size: tl.constexpr = WIDTH
    for power in tl.static_range(1, 9):
        if size >> power > 0:
            below, level = level, ()
            for i in tl.static_range(size >> power):
                level += (tl.join(below[i], below[i + (size >> power)]),)
    return tl.reshape(level[0], tensors[0].shape + [size])  # noqa: RUF005 - Triton knows no stars


@triton.jit
def add_parts(
    parts_ptr,
    inner_ptr,
    outer_ptr,
    m,
    n,
    chunks,
    blocks,
    heads: tl.constexpr,
    dims: tl.constexpr,
    WIDTH: tl.constexpr,
    POINTS: tl.constexpr,
):
    """Add the parts of both sides in order: blocks of points by grid axis 0, pieces by 1."""
    block, piece = tl.program_id(0), tl.program_id(1).to(tl.int64)
    columns = tl.cdiv(n, POINTS)
    outside = block >= columns
    size, count = tl.where(outside, m, n), tl.where(outside, blocks, chunks)
    if outside:
        parts_ptr += tl.num_programs(1).to(tl.int64) * chunks * n * WIDTH
        inner_ptr = outer_ptr
    point = (block - tl.where(outside, columns, 0)) * POINTS + tl.arange(0, POINTS)[:, None]
    lane = tl.arange(0, WIDTH)[None, :]
    there = point < size
    parts_ptr += piece * count * size * WIDTH
    total = tl.zeros((POINTS, WIDTH), tl.float32)
    for _ in range(count):
        total += tl.load(parts_ptr + point * WIDTH + lane, mask=there, other=0.0)
        parts_ptr += size.to(tl.int64) * WIDTH
    at = ((piece * heads + lane // dims) * size + point) * dims + lane % dims
    tl.store(inner_ptr + at, total, mask=there & (lane < heads * dims))
