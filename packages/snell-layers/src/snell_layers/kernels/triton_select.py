r"""The threshold on the GPU: an exact order statistic of $|w|$, without a sort and without the host.

Floats without sign order like their bits, so the threshold is found digit by digit. Every pass
computes $|w|$ again from the factors and counts; what the counts say is worked out on the device
by whoever needs it. No array of size $m \times n$ exists, and integer counts know no order.

1. `count_coarse` counts all keys by a map that is monotone: binades ($2^{23}$ keys) up to a window
   around the hint, bins of $2^{11}$ keys inside the window, binades after it.
2. `count_fine` counts the keys of the bin that holds the threshold: alone, if it is in the window,
   and by $2^{11}$ keys otherwise.
3. Only in the latter case `count_fine` counts those alone; its programs leave at once in the other.

So a hint saves one pass of three and most of the counting, and cannot change the result. The
launches are the same in all cases. Import this module only where Triton is installed.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .triton_entries import FIXED, check_factors, entries

__all__ = ["count_coarse", "count_fine", "settle", "threshold_triton"]

BLOCKS: dict[str, Any] = {"ROWS": 32, "COLS": 64, "num_warps": 4}
PROGRAMS = 1024  # at most, per piece; each adds its counts once

BINS = tl.constexpr(512)  # of the first pass; the last one is never reached by a key
FINE = tl.constexpr(254)  # of these, inside the window: 256 binades and one split fill the rest
STEP = tl.constexpr(11)  # a bin of the window has 2 ** 11 keys
BINADE = tl.constexpr(23)
DIGITS = tl.constexpr(1 << 12)  # bins of the later passes: a binade by steps
KEYS_OF_STEP = tl.constexpr(1 << 11)
KEYS_OF_BINADE = tl.constexpr(1 << 23)
WINDOW = tl.constexpr(254 << 11)


@triton.jit
def tile_keys(
    inner_ptr,
    outer_ptr,
    scales_ptr,
    tile,
    m,
    n,
    heads: tl.constexpr,
    dims: tl.constexpr,
    trained: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
):
    """The bits of $|w|$ in one tile of this program's piece, and -1 outside the matrix."""
    piece = tl.program_id(1).to(tl.int64)
    across = tl.cdiv(n, COLS)
    row = (tile // across) * ROWS + tl.arange(0, ROWS)
    col = (tile % across) * COLS + tl.arange(0, COLS)
    inner_ptr += piece * heads * n * dims
    outer_ptr += piece * heads * m * dims
    w = entries(
        inner_ptr, outer_ptr, scales_ptr + piece * heads, row, col, m, n, heads, dims, trained
    )
    key = w.to(tl.int32, bitcast=True) & 0x7FFFFFFF
    return tl.where((row < m)[:, None] & (col < n)[None, :], key, -1)


@triton.jit
def window_start(hint_ptr):
    """First key of the window around the hint; any bits will do, they only cost time."""
    key = tl.load(hint_ptr).to(tl.int32, bitcast=True) & 0x7FFFFFFF
    return tl.minimum(tl.maximum(key - WINDOW // 2, 0), 0x7FFFFFFF - WINDOW)


@triton.jit
def count_coarse(
    inner_ptr,
    outer_ptr,
    scales_ptr,
    hint_ptr,
    counts_ptr,
    m,
    n,
    tiles,
    heads: tl.constexpr,
    dims: tl.constexpr,
    trained: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
):
    """First pass: all keys; programs by grid axis 0, pieces by 1."""
    start = window_start(hint_ptr + tl.program_id(1))
    total = tl.zeros((BINS,), dtype=tl.int32)
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        key = tile_keys(
            inner_ptr, outer_ptr, scales_ptr, tile, m, n, heads, dims, trained, ROWS, COLS
        )
        binade = key >> BINADE
        fine = (key - start) >> STEP  # may be negative
        inside = (start >> BINADE) + 1 + tl.minimum(fine, FINE - 1)
        index = tl.where(fine < FINE, inside, binade + 1 + FINE)
        index = tl.where(key < start, binade, index)
        index = tl.where(key < 0, BINS - 1, index)
        total += tl.histogram(tl.reshape(index, (ROWS * COLS,)), BINS)
    bins = tl.arange(0, BINS)
    tl.atomic_add(counts_ptr + tl.program_id(1) * BINS + bins, total, mask=total > 0, sem="relaxed")


@triton.jit
def chosen(counts_ptr, rank, size: tl.constexpr):
    """The bin that holds the key of a rank (from 1), and the rank inside it."""
    count = tl.load(counts_ptr + tl.arange(0, size))
    below = tl.cumsum(count, axis=0) < rank  # true for the first bins, false for the others
    return tl.sum(below.to(tl.int32), axis=0), rank - tl.sum(tl.where(below, count, 0), axis=0)


@triton.jit
def coarse_interval(hint_ptr, counts_ptr, rank):
    """Where the first pass saw the threshold: first key, keys, bits of a bin, rank inside."""
    start = window_start(hint_ptr + tl.program_id(1))
    index, rank = chosen(counts_ptr + tl.program_id(1) * BINS, rank, BINS)
    split = start >> BINADE
    inside = (index > split) & (index <= split + FINE)
    after = (index - (1 + FINE)) << BINADE
    first = tl.where(index > split, tl.maximum(after, start + WINDOW), index << BINADE)
    size = tl.where(index > split, after + KEYS_OF_BINADE, tl.minimum(start, first + KEYS_OF_BINADE))
    size -= first
    first = tl.where(inside, start + ((index - split - 1) << STEP), first)
    size = tl.where(inside, KEYS_OF_STEP, size)
    return first, size, tl.where(inside, 0, STEP), rank


@triton.jit
def fine_interval(counts_ptr, first, size, shift, rank):
    """The same after a pass over such an interval."""
    index, rank = chosen(counts_ptr + tl.program_id(1) * DIGITS, rank, DIGITS)
    return first + (index << shift), tl.minimum(size - (index << shift), 1 << shift), rank


@triton.jit(do_not_specialize=["rank"])
def count_fine(
    inner_ptr,
    outer_ptr,
    scales_ptr,
    hint_ptr,
    coarse_ptr,
    second_ptr,
    counts_ptr,
    m,
    n,
    tiles,
    rank,
    heads: tl.constexpr,
    dims: tl.constexpr,
    trained: tl.constexpr,
    third: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
):
    """Second or third pass: the keys of one interval; the grid is as before."""
    first, size, shift, rank = coarse_interval(hint_ptr, coarse_ptr, rank)
    end = tiles
    if third:
        end = tl.where(shift == 0, 0, tiles)  # zero if the second pass counted single keys
        if shift != 0:
            first, size, rank = fine_interval(second_ptr, first, size, shift, rank)
            shift -= shift
    counts_ptr += tl.program_id(1) * DIGITS
    for tile in range(tl.program_id(0), end, tl.num_programs(0)):
        key = tile_keys(
            inner_ptr, outer_ptr, scales_ptr, tile, m, n, heads, dims, trained, ROWS, COLS
        )
        index = key - first
        inside = (key >= first) & (index < size)
        one = tl.full((ROWS, COLS), 1, tl.int32)
        tl.atomic_add(counts_ptr + (index >> shift), one, mask=inside, sem="relaxed")


@triton.jit(do_not_specialize=["rank"])
def settle(hint_ptr, coarse_ptr, second_ptr, third_ptr, tau_ptr, rank):
    """Write the threshold of one piece."""
    first, size, shift, rank = coarse_interval(hint_ptr, coarse_ptr, rank)
    first, size, rank = fine_interval(second_ptr, first, size, shift, rank)
    if shift != 0:
        first, size, rank = fine_interval(third_ptr, first, size, 0, rank)
    tl.store(tau_ptr + tl.program_id(1), first.to(tl.float32, bitcast=True))


def threshold_triton(
    inner: Tensor,
    outer: Tensor,
    scales: Tensor | None,
    removed: int,
    *,
    hint: Tensor | None = None,
) -> Tensor:
    r"""Find the `removed`-th smallest $|w|$ of every piece, exactly.

    $$\tau = |w|_{(removed)}, \qquad w_{ji} = \sum_h c_h \lVert b^h_j - a^h_i \rVert_2$$

    Equal to the last bit to a sort of the $|w|$ that `merge_triton` computes. NaN counts as the
    largest. Nothing waits for the GPU; a CUDA graph can capture the launches.

    Args:
        inner: $a$, `(pieces, heads, n, dims)`, float32, contiguous.
        outer: $b$, `(pieces, heads, m, dims)`, likewise.
        scales: $c$, `(pieces, heads)`; `None` is the frozen $\pm 0.1$.
        removed: Rank from 1 to $mn$; 0 gives thresholds of 0.
        hint: A guess, `(pieces,)`, say the thresholds of the last step; any value is allowed.

    Returns:
        Thresholds `(pieces,)`, float32, on the device.

    Raises:
        ValueError: If a shape, type, device or number does not fit.

    Examples:
        >>> import torch
        >>> from snell_layers.kernels.triton_entries import available
        >>> gpu = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        >>> inner = torch.tensor([3.0, 1.0, 2.0], device=gpu).view(1, 1, 3, 1)
        >>> outer, scales = torch.zeros(1, 1, 1, 1, device=gpu), torch.ones(1, 1, device=gpu)
        >>> if available(gpu):
        ...     assert threshold_triton(inner, outer, scales, 2).tolist() == [2.0]
    """
    check_factors(inner, outer, scales=scales, hint=hint)
    (pieces, heads, m, dims), n = outer.shape, inner.shape[2]
    if not 0 <= removed <= m * n < 2**31:
        raise ValueError(f"removed={removed}: pass 0 to m * n = {m * n}, which must be below 2**31.")
    if removed == 0:
        return inner.new_zeros(pieces)
    sizes = [pieces * bins for bins in (BINS.value, DIGITS.value, DIGITS.value, 1)]
    zeros = torch.zeros(sum(sizes), dtype=torch.int32, device=inner.device)
    coarse, second, third, nothing = zeros.split(sizes)
    hint = nothing.view(torch.float32) if hint is None else hint
    tau = torch.empty_like(hint)
    tiles = triton.cdiv(m, BLOCKS["ROWS"]) * triton.cdiv(n, BLOCKS["COLS"])
    grid, factors = (min(tiles, PROGRAMS), pieces), (inner, outer, inner if scales is None else scales)
    kind = (heads, dims, scales is not None)
    all_keys: Any = count_coarse[grid]
    some_keys: Any = count_fine[grid]
    end: Any = settle[(1, pieces)]
    with torch.cuda.device_of(inner):
        all_keys(*factors, hint, coarse, m, n, tiles, *kind, **BLOCKS, **FIXED)
        for is_third, counts in enumerate((second, third)):
            some_keys(
                *(*factors, hint, coarse, second, counts, m, n, tiles, removed),
                *(*kind, bool(is_third)),
                **BLOCKS,
                **FIXED,
            )
        end(hint, coarse, second, third, tau, removed, num_warps=8, **FIXED)
    return tau
