r"""The gradient of the factors on the GPU: the weight gradient is read once and folded at once.

A program owns a block of columns and goes down a chunk of rows. For every tile it writes the sums
along the rows; those along the columns it keeps, and writes once. A second kernel adds the parts of
every number in order, so there are no atomics and two runs agree to the last bit.

Import this module where it is needed and only where Triton is installed.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .triton_entries import FIXED, check_factors, distances, entries
from .triton_merge import check_gate, check_matrix

__all__ = ["add_parts", "chunking", "fold_tiles", "fold_triton"]

# Fixed, and never tuned at run time: they set the order of summation, and with it the last bit.
BLOCKS: dict[str, Any] = {"ROWS": 32, "COLS": 128, "num_warps": 8}
PROGRAMS = 512
POINTS = 256


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
def fold_tiles(
    grad_ptr,
    inner_ptr,
    outer_ptr,
    scales_ptr,
    tau_ptr,
    rows_ptr,
    cols_ptr,
    sums_ptr,
    m,
    n,
    grad_stride,
    tiles,
    factor,
    heads: tl.constexpr,
    dims: tl.constexpr,
    trained: tl.constexpr,
    gate: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
):
    """Fold one chunk: blocks of columns by grid axis 0, chunks of `tiles` tiles by 1, pieces by 2.

    The parts: rows `(pieces, blocks, r, m)`, cols `(pieces, chunks, r, n)`, sums
    `(pieces, chunks * blocks, heads)`. WIDTH is the power of two that holds r numbers.
    """
    block, chunk = tl.program_id(0), tl.program_id(1)
    piece = tl.program_id(2).to(tl.int64)
    inner_ptr += piece * heads * n * dims
    outer_ptr += piece * heads * m * dims
    scales_ptr += piece * heads
    rows_ptr += (piece * tl.num_programs(0) + block) * heads * dims * m
    cols_ptr += (piece * tl.num_programs(1) + chunk) * heads * dims * n
    sums_ptr += ((piece * tl.num_programs(1) + chunk) * tl.num_programs(0) + block) * heads
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
                scale = tl.load(scales_ptr + head)
            else:
                scale = 0.1 if head % 2 == 0 else -0.1
            pull = scale * grad * inverse  # coincident points have no direction: zero
            for d in range(dims):
                a = tl.load(a_ptr + d, mask=col < n, other=0.0)
                b = tl.load(b_ptr + d, mask=row < m, other=0.0)
                moved = pull * (b[:, None] - a[None, :])
                feature = head * dims + d
                tl.store(rows_ptr + feature * m + row, tl.sum(moved, axis=1), mask=row < m)
                mine = (lane == feature)[None, :]
                # pyrefly: ignore[bad-index]
                total -= tl.where(mine, tl.sum(moved, axis=0)[:, None], 0.0)
    both = (col < n)[:, None] & (lane < heads * dims)[None, :]
    tl.store(cols_ptr + lane[None, :] * n + col[:, None], total, mask=both)
    if trained:
        tl.store(sums_ptr + lane, sums, mask=lane < heads)


@triton.jit
def add_parts(part_ptr, out_ptr, points, parts, r, dims, POINTS: tl.constexpr):
    """Add parts `(pieces, parts, r, points)` to factors `(pieces, heads, points, dims)`, in order.

    Blocks of points by grid axis 0, the r features by 1, pieces by 2.
    """
    point = tl.program_id(0) * POINTS + tl.arange(0, POINTS)
    feature, piece = tl.program_id(1), tl.program_id(2).to(tl.int64)
    total = tl.zeros((POINTS,), tl.float32)
    for part in range(parts):
        at = ((piece * parts + part) * r + feature) * points + point
        total += tl.load(part_ptr + at, mask=point < points, other=0.0)
    head, d = feature // dims, feature % dims
    at = ((piece * (r // dims) + head) * points + point) * dims + d
    tl.store(out_ptr + at, total, mask=point < points)


def chunking(m: int, n: int, r: int) -> tuple[int, int, int]:
    """Return blocks of columns, chunks of rows, and tiles per chunk.

    Chunks are long enough that their parts stay below an eighth of the matrix.
    """
    blocks, tiles = triton.cdiv(n, BLOCKS["COLS"]), triton.cdiv(m, BLOCKS["ROWS"])
    per_chunk = max(triton.cdiv(8 * r, BLOCKS["ROWS"]), triton.cdiv(tiles * blocks, PROGRAMS))
    per_chunk = min(per_chunk, tiles)
    return blocks, triton.cdiv(tiles, per_chunk), per_chunk


def fold_triton(
    grad: Tensor,
    inner: Tensor,
    outer: Tensor,
    scales: Tensor | None,
    tau: Tensor | None,
    gate: str,
    *,
    factor: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor | None]:
    r"""Gradients of the factors and coefficients from the gradient of the weight.

    $$g_w = factor \cdot G \circ \mathrm{slope}_\tau(w), \qquad R^h = c_h\, g_w / d^h, \qquad
      \partial b^h_j = \sum_i R^h_{ji} (b^h_j - a^h_i), \quad
      \partial a^h_i = -\sum_j R^h_{ji} (b^h_j - a^h_i), \quad
      \partial c_h = \sum_{ji} g_{w,ji}\, d^h_{ji}$$

    Sums are in float32, of direct differences, in an order that depends on the shapes alone.
    Nothing waits for the GPU.

    Args:
        grad: $G$, `(pieces * m, n)`, float32, float16 or bfloat16.
        inner: $a$, `(pieces, heads, n, dims)`, float32, contiguous.
        outer: $b$, `(pieces, heads, m, dims)`, likewise.
        scales: $c$, `(pieces, heads)`; `None` is the frozen $\pm 0.1$.
        tau: The thresholds of the forward, `(pieces,)`; `None` only with the gate `"none"`.
        gate: One of `triton_merge.GATES`.
        factor: The factor of the forward.

    Returns:
        $\partial a$, $\partial b$ and $\partial c$, or `None` for frozen coefficients; float32.

    Raises:
        ValueError: If a shape, type, device or name does not fit.

    Examples:
        >>> import torch
        >>> from snell_layers.kernels.triton_entries import available
        >>> gpu = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        >>> inner, outer = torch.zeros(1, 1, 3, 2, device=gpu), torch.ones(1, 1, 2, 2, device=gpu)
        >>> grad = torch.ones(2, 3, device=gpu)
        >>> if available(gpu):
        ...     da, db, dc = fold_triton(grad, inner, outer, None, None, "none")
        ...     assert torch.allclose(db, torch.full_like(db, 0.3 / 2**0.5))
    """
    check_factors(inner, outer, scales=scales, tau=tau)
    (pieces, heads, m, dims), n = outer.shape, inner.shape[2]
    check_gate(gate, tau)
    check_matrix("grad", grad, pieces * m, n, inner.device)
    r = heads * dims
    blocks, chunks, tiles = chunking(m, n, r)
    rows, cols = inner.new_empty(pieces, blocks, r, m), inner.new_empty(pieces, chunks, r, n)
    sums = inner.new_empty(pieces, chunks * blocks, heads) if scales is not None else None
    unused = inner  # a pointer that the kernel does not follow
    fold: Any = fold_tiles[(blocks, chunks, pieces)]
    with torch.cuda.device_of(inner):
        fold(
            *(grad, inner, outer, unused if scales is None else scales),
            *(unused if tau is None else tau, rows, cols, unused if sums is None else sums),
            *(m, n, grad.stride(0), tiles, float(factor), heads, dims, scales is not None, gate),
            WIDTH=triton.next_power_of_2(r),
            **BLOCKS,
            **FIXED,
        )
        found = [added(part, like) for part, like in ((cols, inner), (rows, outer))]
    return found[0], found[1], None if sums is None else sums.sum(1)


def added(part: Tensor, like: Tensor) -> Tensor:
    """The parts of one side added up, laid out like its factor."""
    (pieces, parts, r, points), out = part.shape, torch.empty_like(like)
    grid = (triton.cdiv(points, POINTS), r, pieces)
    add: Any = add_parts[grid]
    add(part, out, points, parts, r, like.shape[-1], POINTS=POINTS, **FIXED)
    return out
