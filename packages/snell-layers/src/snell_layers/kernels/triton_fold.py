r"""The gradient of the factors on the GPU: the weight gradient is read once and folded at once.

A program owns a block of columns and goes down a chunk of rows. For every tile it writes the sums
along the rows; those along the columns stay in registers, where every thread adds up its own, and
are written once. A second kernel adds the parts of every number in order, so there are no atomics
and two runs agree to the last bit. The merged matrix can be written over the gradient meanwhile.

Import this module where it is needed and only where Triton is installed.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .triton_entries import (
    FIXED,
    NARROW,
    check_factors,
    coefficient,
    combined,
    coordinates,
    gaps_squared,
    inverse_root,
)
from .triton_fold_wide import WIDE, fold_wide, slope
from .triton_merge import RESULTS, check_gate, check_matrix, gated, merge_triton, narrowed
from .triton_parts import add_parts, joined

__all__ = ["blocks_for", "chunking", "columns_of", "fold_tiles", "fold_triton"]

# Fixed, and never tuned at run time: they set the order of summation, and with it the last bit.
BLOCKS: dict[str, Any] = {"ROWS": 16, "GROUPS": 2, "COLS": 32, "num_warps": 4}
HALF: dict[str, Any] = {"ROWS": 16, "GROUPS": 1, "COLS": 64, "num_warps": 4}
"""For 16-bit gradients, of which a thread loads eight at once."""
BROAD: dict[str, Any] = {"ROWS": 4, "GROUPS": 1, "COLS": 128, "num_warps": 4}
SLIM = 8
"""Rows of more numbers need wider blocks: fewer parts, and fewer sums in every thread."""
PROGRAMS = 264  # in all pieces, if chunks may be as short: two for each processor of an H100
POINTS = 16


@triton.jit
def fold_tiles(
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
    GROUPS: tl.constexpr,
    COLS: tl.constexpr,
):
    """Fold one chunk: blocks of columns by grid axis 0, chunks of `tiles` tiles by 1, pieces by 2.

    The parts: columns `(pieces, chunks, n, WIDTH)`, then rows `(pieces, blocks, m, WIDTH)`; the
    sums `(pieces, chunks, blocks, WIDTH)`. A thread has GROUPS times a few columns of one row, so
    that the sums along the columns stay in its registers until the chunk ends.
    """
    block, chunk = tl.program_id(0), tl.program_id(1)
    blocks, chunks = tl.num_programs(0), tl.num_programs(1)
    piece, pieces = tl.program_id(2).to(tl.int64), tl.num_programs(2).to(tl.int64)
    inner_ptr += piece * heads * dims * n
    outer_ptr += piece * heads * dims * m
    scales_ptr += piece * heads
    cols_ptr = parts_ptr + (piece * chunks + chunk) * n * WIDTH
    rows_ptr = parts_ptr + (pieces * chunks * n + (piece * blocks + block) * m) * WIDTH
    tau = 0.0 if gate == "none" else tl.load(tau_ptr + piece)
    group = tl.arange(0, GROUPS) * COLS + block * GROUPS * COLS
    line, lane = tl.arange(0, COLS), tl.arange(0, WIDTH)
    col = group[None, :, None] + line[None, None, :]
    a = coordinates(inner_ptr, col, n, heads, dims)
    total = tl.zeros((ROWS, GROUPS, COLS, WIDTH), tl.float32)
    sums = tl.zeros((ROWS, GROUPS, COLS, WIDTH if trained else 1), tl.float32)
    for tile in range(tiles):
        down = (chunk * tiles + tile) * ROWS + tl.arange(0, ROWS)
        row = down[:, None, None]
        inside = (row < m) & (col < n)
        at = grad_ptr + (piece * m + row) * grad_stride + col
        grad = tl.load(at, mask=inside, other=0.0).to(tl.float32) * factor
        b = coordinates(outer_ptr, row, m, heads, dims)
        distance, inverse = (), ()
        for head in tl.static_range(heads):
            squares = gaps_squared(a, b, head, dims)
            inverse += (inverse_root(squares),)
            distance += (squares * inverse[head],)
        w = combined(distance, scales_ptr, heads, trained)
        if replace:
            value = gated(w, tau, gate) * factor
            if merging:
                place = weight_ptr + (piece * m + row) * weight_stride + col
                value = tl.load(place, mask=inside, other=0.0).to(tl.float32) + value
            tl.store(at, narrowed(value, kind), mask=inside)
        if gate != "none":
            grad *= slope(w, tau, gate)
        pull, moved, weighted = (), (), ()
        for head in tl.static_range(heads):
            scale = coefficient(scales_ptr, head, trained)
            pull += (scale * grad * inverse[head],)  # coincident points pull nothing
            weighted += (grad * distance[head],)
        for feature in tl.static_range(heads * dims):
            moved += (pull[feature // dims] * (b[feature] - a[feature]),)
        both = joined(moved, heads * dims, WIDTH)
        total += both
        if trained:
            sums += joined(weighted, heads, WIDTH)
        spot = rows_ptr + down[:, None] * WIDTH + lane[None, :]
        tl.store(spot, tl.sum(tl.sum(both, axis=1), axis=1), mask=down[:, None] < m)
    spot = cols_ptr + (group[:, None] + line[None, :])[:, :, None] * WIDTH + lane[None, None, :]
    tl.store(spot, -tl.sum(total, axis=0), mask=(group[:, None] + line[None, :])[:, :, None] < n)
    if trained:
        spot = sums_ptr + ((piece * chunks + chunk) * blocks + block) * WIDTH + lane
        tl.store(spot, tl.sum(tl.sum(tl.sum(sums, axis=0), axis=0), axis=0))


def chunking(m: int, n: int, width: int, pieces: int = 1, bits: int = 32) -> tuple[int, int, int]:
    """Return blocks of columns, chunks of rows, and tiles per chunk.

    Chunks are long enough that their parts stay below an eighth of the matrix.
    """
    sizes = blocks_for(width, bits)
    across, tiles = triton.cdiv(n, columns_of(sizes)), triton.cdiv(m, sizes["ROWS"])
    chunks = max(1, PROGRAMS // (across * pieces))
    per_chunk = max(triton.cdiv(8 * width, sizes["ROWS"]), triton.cdiv(tiles, chunks))
    per_chunk = min(per_chunk, tiles)
    return across, triton.cdiv(tiles, per_chunk), per_chunk


def blocks_for(width: int, bits: int) -> dict[str, Any]:
    """The shape of tiles for rows of so many numbers, and gradients of so many bits."""
    if width > NARROW.value:
        return WIDE
    if width > SLIM:
        return BROAD
    return BLOCKS if bits == 32 else HALF


def columns_of(sizes: dict[str, Any]) -> int:
    """The columns of a program."""
    return sizes["COLS"] * sizes.get("GROUPS", 1)


def fold_triton(
    grad: Tensor,
    inner: Tensor,
    outer: Tensor,
    scales: Tensor | None,
    tau: Tensor | None,
    gate: str,
    *,
    factor: float = 1.0,
    weight: Tensor | None = None,
    replace: bool = False,
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
        weight: $W$ of the forward, `(pieces * m, n)`; only for `replace`.
        replace: Whether to write the forward's matrix over `grad`, as `merge_triton` does.

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
    if weight is not None:
        check_matrix("weight", weight, pieces * m, n, inner.device)
    width = triton.next_power_of_2(heads * dims)
    bits = 8 * grad.element_size()
    narrow, sizes = width <= NARROW.value, blocks_for(width, bits)
    kernel = fold_tiles if narrow else fold_wide
    blocks, chunks, tiles = chunking(m, n, width, pieces, bits)
    parts = inner.new_empty(pieces * (chunks * n + blocks * m) * width)
    sums = inner.new_empty(pieces, chunks * blocks, width) if scales is not None else None
    found = torch.empty_like(inner), torch.empty_like(outer)
    unused = inner  # a pointer that the kernel does not follow
    settings = heads, dims, scales is not None, gate
    run: Any = kernel[(blocks, chunks, pieces)]
    add: Any = add_parts[(triton.cdiv(n, POINTS) + triton.cdiv(m, POINTS), pieces)]
    with torch.cuda.device_of(inner):
        run(
            *(grad, inner, outer, unused if scales is None else scales),
            *(unused if tau is None else tau, unused if weight is None else weight),
            *(parts, unused if sums is None else sums, m, n, grad.stride(0)),
            *(0 if weight is None else weight.stride(0), tiles, float(factor), *settings),
            *(replace and narrow, weight is not None, RESULTS[grad.dtype]),
            **{"WIDTH": width, **sizes, **FIXED},
        )
        add(
            *(parts, *found, m, n, chunks, blocks, heads, dims),
            **{"WIDTH": width, "POINTS": POINTS, "num_warps": 1, **FIXED},
        )
    if replace and not narrow:
        merge_triton(inner, outer, scales, tau, weight, gate, grad, factor=factor)
    return *found, None if sums is None else sums.sum(1)[:, :heads]
