r"""Counting $|w|$ by its bits on the GPU, and where the counts say that a rank is.

Floats without sign order like their bits, so the threshold is found digit by digit. Every pass
computes $|w|$ again from the factors and counts; what the counts say is worked out on the device
by whoever needs it. No array of size $m \times n$ exists, and integer counts know no order.

1. `count_coarse` counts all keys by a map that is monotone: binades ($2^{23}$ keys) up to a window
   around the hint, bins of $2^{11}$ keys inside the window, binades after it.
2. `count_fine` counts the keys of the bin that holds the threshold: alone, if it is in the window,
   and by $2^{11}$ keys otherwise.
3. Only in the latter case `count_fine` counts those alone; its programs leave at once in the other.

So a hint saves one pass of three and cannot change the result, and the launches are the same in
all cases. Import this module only where Triton is installed.
"""

import triton
import triton.language as tl

from .triton_entries import entries

__all__ = ["BINS", "DIGITS", "count_coarse", "count_fine", "settle"]

BINS = tl.constexpr(512)  # of the first pass; the last one is never reached by a key
FINE = tl.constexpr(254)  # of these, inside the window: 256 binades and one split fill the rest
STEP = tl.constexpr(11)  # a bin of the window has 2 ** 11 keys
BINADE = tl.constexpr(23)
DIGITS = tl.constexpr(1 << 12)  # bins of the later passes: a binade by steps
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
def after_coarse(hint_ptr, counts_ptr, rank):
    """Where the first pass saw the threshold: first key, bits of the next bins, rank from there.

    What lies past the bin may be counted along with it: it cannot come before the threshold.
    """
    start = window_start(hint_ptr + tl.program_id(1))
    index, rank = chosen(counts_ptr + tl.program_id(1) * BINS, rank, BINS)
    split = start >> BINADE
    past = (index - (1 + FINE)) << BINADE
    # pyrefly: ignore[unsupported-operation]
    first = tl.where(index > split, tl.maximum(past, start + WINDOW), index << BINADE)
    inside = (index > split) & (index <= split + FINE)
    first = tl.where(inside, start + ((index - split - 1) << STEP), first)
    return first, tl.where(inside, 0, STEP), rank


@triton.jit
def after_fine(counts_ptr, first, shift, rank):
    """First key and rank after a pass over bins of 2 ** shift keys."""
    index, rank = chosen(counts_ptr + tl.program_id(1) * DIGITS, rank, DIGITS)
    return first + (index << shift), rank


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
    """Second or third pass: the keys from the bin on that was found; the grid is as before."""
    first, shift, rank = after_coarse(hint_ptr, coarse_ptr, rank)
    end = tiles
    if third:
        end = tl.where(shift == 0, 0, tiles)  # zero if the second pass counted single keys
        if shift != 0:
            first, rank = after_fine(second_ptr, first, shift, rank)
            shift -= shift
    counts_ptr += tl.program_id(1) * DIGITS
    for tile in range(tl.program_id(0), end, tl.num_programs(0)):
        key = tile_keys(
            inner_ptr, outer_ptr, scales_ptr, tile, m, n, heads, dims, trained, ROWS, COLS
        )
        index = (key - first) >> shift
        inside = (key >= first) & (index < DIGITS)
        one = tl.full((ROWS, COLS), 1, tl.int32)
        tl.atomic_add(counts_ptr + index, one, mask=inside, sem="relaxed")


@triton.jit(do_not_specialize=["rank"])
def settle(hint_ptr, coarse_ptr, second_ptr, third_ptr, tau_ptr, rank):
    """Write the threshold of one piece."""
    first, shift, rank = after_coarse(hint_ptr, coarse_ptr, rank)
    first, rank = after_fine(second_ptr, first, shift, rank)
    if shift != 0:
        first, rank = after_fine(third_ptr, first, 0, rank)
    tl.store(tau_ptr + tl.program_id(1), first.to(tl.float32, bitcast=True))
