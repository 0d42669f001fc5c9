r"""The gradient of the factors on the GPU where rows have many numbers: sums by reductions.

As `triton_fold`, which does the rest; only the sums along the columns do not fit into registers.
Import this module where it is needed and only where Triton is installed.
"""

from typing import Any

import triton
import triton.language as tl

from .triton_entries import coefficient, distances, entries

__all__ = ["WIDE", "fold_wide", "slope"]

# Fixed for the same reason as there.
WIDE: dict[str, Any] = {"ROWS": 32, "COLS": 128, "num_warps": 8}


@triton.jit
def slope(w, tau, gate: tl.constexpr):
    """What the gradient of the sparse matrix is multiplied with to be that of $w$."""
    magnitude = tl.abs(w)
    if gate == "released":
        value = magnitude
    elif gate == "paper":
        value = 2 * magnitude - tau
    else:
        value = tl.full(w.shape, 1.0, tl.float32)
    return tl.where(magnitude <= tau, 0.0, value)


@triton.jit
def fold_wide(
    grad_ptr,
    inner_ptr,
    outer_ptr,
    scales_ptr,
    tau_ptr,
    weight_ptr,
    parts_ptr,
    sums_ptr,
    m,
    n,
    grad_stride,
    weight_stride,
    tiles,
    factor,
    heads: tl.constexpr,
    dims: tl.constexpr,
    trained: tl.constexpr,
    gate: tl.constexpr,
    replace: tl.constexpr,
    merging: tl.constexpr,
    kind: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
):
    """As `fold_tiles`, but `replace` and what belongs to it are left alone."""
    block, chunk = tl.program_id(0), tl.program_id(1)
    blocks, chunks = tl.num_programs(0), tl.num_programs(1)
    piece, pieces = tl.program_id(2).to(tl.int64), tl.num_programs(2).to(tl.int64)
    inner_ptr += piece * heads * n * dims
    outer_ptr += piece * heads * m * dims
    scales_ptr += piece * heads
    cols_ptr = parts_ptr + (piece * chunks + chunk) * n * WIDTH
    rows_ptr = parts_ptr + (pieces * chunks * n + (piece * blocks + block) * m) * WIDTH
    sums_ptr += ((piece * chunks + chunk) * blocks + block) * WIDTH
    tau = 0.0 if gate == "none" else tl.load(tau_ptr + piece)
    col = block * COLS + tl.arange(0, COLS)
    lane = tl.arange(0, WIDTH)
    total = tl.zeros((COLS, WIDTH), tl.float32)
    sums = tl.zeros((WIDTH,), tl.float32)
    for tile in range(tiles):
        row = (chunk * tiles + tile) * ROWS + tl.arange(0, ROWS)
        inside = (row < m)[:, None] & (col < n)[None, :]
        at = (piece * m + row)[:, None] * grad_stride + col[None, :]
        grad = tl.load(grad_ptr + at, mask=inside, other=0.0).to(tl.float32) * factor
        if gate != "none":
            w = entries(inner_ptr, outer_ptr, scales_ptr, row, col, m, n, heads, dims, trained)
            grad *= slope(w, tau, gate)
        for head in tl.static_range(heads):
            a_ptr = inner_ptr + head * n * dims + col * dims
            b_ptr = outer_ptr + head * m * dims + row * dims
            distance, inverse = distances(
                inner_ptr + head * n * dims, outer_ptr + head * m * dims, row, col, m, n, dims
            )
            if trained:
                sums += tl.where(lane == head, tl.sum(tl.sum(grad * distance, axis=1), axis=0), 0.0)
            pull = (
                coefficient(scales_ptr, head, trained) * grad * inverse
            )  # coincident points have no direction: zero
            for d in range(dims):
                a = tl.load(a_ptr + d, mask=col < n, other=0.0)
                b = tl.load(b_ptr + d, mask=row < m, other=0.0)
                moved = pull * (b[:, None] - a[None, :])
                feature = head * dims + d
                tl.store(rows_ptr + row * WIDTH + feature, tl.sum(moved, axis=1), mask=row < m)
                mine = (lane == feature)[None, :]
                # pyrefly: ignore[bad-index]
                total -= tl.where(mine, tl.sum(moved, axis=0)[:, None], 0.0)
    tl.store(cols_ptr + col[:, None] * WIDTH + lane[None, :], total, mask=(col < n)[:, None])
    if trained:
        tl.store(sums_ptr + lane, sums)
