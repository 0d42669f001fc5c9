r"""Counting $|w|$ by its bits on the GPU, and where the counts say that a rank is.

Floats without sign order like their bits, so the threshold is found digit by digit. The first pass
computes $w$ and leaves it where the matrix will be written; the others read it there, mostly from
the cache. What the counts say is worked out on the device by whoever needs it, and integer counts
know no order.

1. `count_near`: the keys below a window around the hint, and those in the window by bins of
   $2^{11}$ keys. Most keys only add to a number in a register.
2. `count_binades`, unless the rank is in the window: all keys by binades ($2^{23}$ keys).
3. `count_fine` counts the keys of the bin that holds the threshold: alone, if the window has it,
   and by $2^{11}$ keys otherwise.
4. Only in the latter case `count_fine` counts those alone.

Programs of passes that are not needed leave at once. So a good hint leaves two passes and cannot
change the result, and the launches do not depend on it. Import this module only where Triton is
installed.
"""

import triton
import triton.language as tl

from .triton_entries import held, held_entries

__all__ = [
    *("BINADES", "DIGITS", "NEAR"),
    *("count_binades", "count_fine", "count_near", "settle"),
]

NEAR = tl.constexpr(1024)  # keys below the window, then its bins
BINADES = tl.constexpr(256)
STEP = tl.constexpr(11)  # a bin of the window has 2 ** 11 keys
BINADE = tl.constexpr(23)
DIGITS = tl.constexpr(1 << 12)  # bins of the later passes: a binade by steps
WINDOW = tl.constexpr(1023 << 11)  # a quarter of a binade


@triton.jit
def keys(w_ptr, tile, entries, BLOCK: tl.constexpr):
    """The bits of $|w|$ in one block of this program's piece, and -1 after its end."""
    at = tile * BLOCK + tl.arange(0, BLOCK)
    w = tl.load(w_ptr + tl.program_id(1).to(tl.int64) * entries + at, mask=at < entries, other=0.0)
    return tl.where(at < entries, w.to(tl.int32, bitcast=True) & 0x7FFFFFFF, -1)


@triton.jit
def window_start(hint_ptr):
    """First key of the window around the hint; any bits will do, they only cost time."""
    key = tl.load(hint_ptr + tl.program_id(1)).to(tl.int32, bitcast=True) & 0x7FFFFFFF
    return tl.minimum(tl.maximum(key - WINDOW // 2, 0), 0x7FFFFFFF - WINDOW)


@triton.jit
def count_near(
    inner_ptr,
    outer_ptr,
    scales_ptr,
    hint_ptr,
    counts_ptr,
    w_ptr,
    m,
    n,
    heads: tl.constexpr,
    dims: tl.constexpr,
    trained: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
):
    """Write $w$, count up to the end of the window; programs by grid axis 0, pieces by 1.

    A program keeps to its rows, so the number of programs is a multiple of their blocks.
    """
    start = window_start(hint_ptr)
    counts_ptr += tl.program_id(1) * NEAR
    piece = tl.program_id(1).to(tl.int64)
    inner_ptr += piece * heads * n * dims
    outer_ptr += piece * heads * m * dims
    scales_ptr += piece * heads
    w_ptr += piece * m * n
    blocks = tl.cdiv(m, ROWS)
    row = (tl.program_id(0) % blocks) * ROWS + tl.arange(0, ROWS)
    b = held(outer_ptr, row[:, None], m, heads, dims)
    below = tl.zeros((ROWS, COLS), tl.int32)
    one = tl.full((ROWS, COLS), 1, tl.int32)
    for tile in range(tl.program_id(0) // blocks, tl.cdiv(n, COLS), tl.num_programs(0) // blocks):
        col = tile * COLS + tl.arange(0, COLS)
        a = held(inner_ptr, col[None, :], n, heads, dims)
        w = held_entries(
            a, b, inner_ptr, outer_ptr, scales_ptr, row, col, m, n, heads, dims, trained
        )
        there = (row < m)[:, None] & (col < n)[None, :]
        tl.store(w_ptr + row[:, None] * n + col[None, :], w, mask=there)
        key = w.to(tl.int32, bitcast=True) & 0x7FFFFFFF
        below += (there & (key < start)).to(tl.int32)
        inside = there & (key >= start) & (key - start < WINDOW)
        tl.atomic_add(counts_ptr + 1 + ((key - start) >> STEP), one, mask=inside, sem="relaxed")
    tl.atomic_add(counts_ptr, tl.sum(tl.sum(below, axis=1), axis=0), sem="relaxed")


@triton.jit
def chosen(counts_ptr, rank, size: tl.constexpr):
    """The bin that holds the key of a rank (from 1), and the rank inside it; the size if none."""
    count = tl.load(counts_ptr + tl.program_id(1) * size + tl.arange(0, size))
    below = tl.cumsum(count, axis=0) < rank  # true for the first bins, false for the others
    return tl.sum(below.to(tl.int32), axis=0), rank - tl.sum(tl.where(below, count, 0), axis=0)


@triton.jit
def after_near(hint_ptr, near_ptr, rank):
    """Whether the window holds the threshold, the first key of its bin, and the rank in there."""
    index, rest = chosen(near_ptr, rank, NEAR)
    # pyrefly: ignore[unsupported-operation]
    first = window_start(hint_ptr) + ((index - 1) << STEP)
    # pyrefly: ignore[unsupported-operation]
    return (index > 0) & (index < NEAR), first, rest


@triton.jit(do_not_specialize=["rank"])
def count_binades(w_ptr, hint_ptr, near_ptr, counts_ptr, entries, rank, BLOCK: tl.constexpr):
    """Count all keys by binades, unless the window has the rank; the grid is as before."""
    found, _, _ = after_near(hint_ptr, near_ptr, rank)
    total = tl.zeros((2 * BINADES,), tl.int32)
    tiles = tl.where(found, 0, tl.cdiv(entries, BLOCK))
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        key = keys(w_ptr, tile, entries, BLOCK)
        # What is after the end goes where the sign would be.
        total += tl.histogram(tl.where(key < 0, 2 * BINADES - 1, key >> BINADE), 2 * BINADES)
    bins = tl.arange(0, 2 * BINADES)
    counts_ptr += tl.program_id(1) * BINADES
    tl.atomic_add(counts_ptr + bins, total, mask=(bins < BINADES) & (total > 0), sem="relaxed")


@triton.jit
def after_binades(hint_ptr, near_ptr, binades_ptr, rank):
    """Where the threshold is by now: first key, bits of the next bins, rank from there."""
    found, first, rest = after_near(hint_ptr, near_ptr, rank)
    shift = tl.where(found, 0, STEP)
    if shift != 0:
        index, rest = chosen(binades_ptr, rank, BINADES)
        # pyrefly: ignore[unsupported-operation]
        first = index << BINADE
    return first, shift, rest


@triton.jit
def after_fine(counts_ptr, first, shift, rank):
    """First key and rank after a pass over bins of 2 ** shift keys."""
    index, rank = chosen(counts_ptr, rank, DIGITS)
    return first + (index << shift), rank


@triton.jit(do_not_specialize=["rank"])
def count_fine(
    w_ptr,
    hint_ptr,
    near_ptr,
    binades_ptr,
    second_ptr,
    counts_ptr,
    entries,
    rank,
    third: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Second or third pass: the keys from the bin on that was found; the grid is as before."""
    first, shift, rank = after_binades(hint_ptr, near_ptr, binades_ptr, rank)
    tiles = tl.cdiv(entries, BLOCK)
    if third:
        tiles = tl.where(shift == 0, 0, tiles)  # zero if the second pass counted single keys
        if shift != 0:
            first, rank = after_fine(second_ptr, first, shift, rank)
            shift -= shift
    counts_ptr += tl.program_id(1) * DIGITS
    one = tl.full((BLOCK,), 1, tl.int32)
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        key = keys(w_ptr, tile, entries, BLOCK)
        index = (key - first) >> shift
        inside = (key >= first) & (index < DIGITS)
        tl.atomic_add(counts_ptr + index, one, mask=inside, sem="relaxed")


@triton.jit(do_not_specialize=["rank"])
def settle(hint_ptr, near_ptr, binades_ptr, second_ptr, third_ptr, tau_ptr, rank):
    """Write the threshold of one piece."""
    first, shift, rank = after_binades(hint_ptr, near_ptr, binades_ptr, rank)
    first, rank = after_fine(second_ptr, first, shift, rank)
    if shift != 0:
        first, rank = after_fine(third_ptr, first, 0, rank)
    tl.store(tau_ptr + tl.program_id(1), first.to(tl.float32, bitcast=True))
