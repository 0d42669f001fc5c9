"""Kernels of the sampled product: what the layer saw, made again and rounded as the forward did.

The sums are in two stages with a fixed order and without atomics. First every program adds one
chunk of tokens for one block of entries; then the chunks of every entry are added.
"""

import triton
import triton.language as tl

__all__ = ["activated", "chunk_sums", "partial_sums", "rounded"]


@triton.jit
def rounded(y, kind: tl.constexpr):
    """Round to the nearest value of a type, ties to even, and keep y's own type."""
    if kind == tl.float16:
        y = y.to(tl.float16).to(y.dtype)
    elif kind == tl.bfloat16:
        # By hand, because Triton's interpreter truncates where a GPU rounds.
        single = y.to(tl.float32)
        bits = single.to(tl.int32, bitcast=True)
        nearest = (bits + (0x7FFF + ((bits >> 16) & 1))) & -0x10000
        nearest = nearest.to(tl.float32, bitcast=True)
        y = tl.where(single == single, nearest, single).to(y.dtype)  # NaN stays NaN
    elif kind == tl.float32:
        y = y.to(tl.float32).to(y.dtype)
    return y


@triton.jit
def activated(x, rebuild: tl.constexpr, kind: tl.constexpr):
    """The activation of x, in x's type, rounded to the type the forward computed it in."""
    if rebuild == "gelu":
        y = x * 0.5 * (1.0 + tl.erf(x * 0.7071067811865476))
    elif rebuild == "gelu_tanh":
        # (1 + tanh u) / 2 is sigmoid(2 u), which has no difference of close numbers.
        inner = 0.7978845608028654 * (x + 0.044715 * x * x * x)
        y = x * (1.0 / (1.0 + tl.exp(-2.0 * inner)))
    elif rebuild == "quick_gelu":
        # Three operations in the forward, and each rounds.
        gate = rounded(1.702 * x, kind)
        y = x * rounded(1.0 / (1.0 + tl.exp(-gate)), kind)
    else:
        y = x / (1.0 + tl.exp(-x))  # silu
    return rounded(y, kind)


@triton.jit
def partial_sums(
    dy_ptr,
    x_ptr,
    rows_ptr,
    cols_ptr,
    mean_ptr,
    rstd_ptr,
    gamma_ptr,
    beta_ptr,
    part_ptr,
    k,
    n,
    dy_stride,
    x_stride,
    tiles,
    rebuild: tl.constexpr,
    has_gamma: tl.constexpr,
    has_beta: tl.constexpr,
    wide: tl.constexpr,
    kind: tl.constexpr,
    then: tl.constexpr,
    ENTRIES: tl.constexpr,
    TOKENS: tl.constexpr,
):
    """Sum one chunk of tokens for one block of entries into part, (chunks, k).

    Pointers and sizes are as in `sampled_product_triton`; a chunk has `tiles` tiles of TOKENS.
    Sums are of type wide, activations are rounded to kind, and what comes of them to then.
    """
    entry = tl.program_id(0).to(tl.int64) * ENTRIES + tl.arange(0, ENTRIES)
    chunk = tl.program_id(1).to(tl.int64)
    inside = entry < k
    row = tl.load(rows_ptr + entry, mask=inside, other=0).to(tl.int64)
    col = tl.load(cols_ptr + entry, mask=inside, other=0).to(tl.int64)
    gamma = tl.load(gamma_ptr + col, mask=inside, other=0.0).to(wide)[None, :] if has_gamma else 1.0
    beta = tl.load(beta_ptr + col, mask=inside, other=0.0).to(wide)[None, :] if has_beta else 0.0
    total = tl.zeros((TOKENS, ENTRIES), dtype=wide)
    for tile in range(tiles):
        token = (chunk * tiles + tile) * TOKENS + tl.arange(0, TOKENS)
        here = token < n
        both = here[:, None] & inside[None, :]
        dy = tl.load(dy_ptr + token[:, None] * dy_stride + row[None, :], mask=both, other=0.0)
        x = tl.load(x_ptr + token[:, None] * x_stride + col[None, :], mask=both, other=0.0)
        y = x.to(wide)
        if rebuild == "layernorm":
            mean = tl.load(mean_ptr + token, mask=here, other=0.0).to(wide)
            rstd = tl.load(rstd_ptr + token, mask=here, other=0.0).to(wide)
            y = (y - mean[:, None]) * rstd[:, None] * gamma + beta
        elif rebuild != "identity":
            y = activated(y, rebuild, kind)
        total += dy.to(wide) * rounded(y, then)
    tl.store(part_ptr + chunk * k + entry, tl.sum(total, axis=0), mask=inside)


@triton.jit
def chunk_sums(part_ptr, out_ptr, k, chunks, ENTRIES: tl.constexpr, TOKENS: tl.constexpr):
    """Add the chunks of every entry, in an order that no other entry has a say in."""
    entry = tl.program_id(0).to(tl.int64) * ENTRIES + tl.arange(0, ENTRIES)
    total = tl.zeros((TOKENS, ENTRIES), dtype=out_ptr.dtype.element_ty)
    for tile in range(tl.cdiv(chunks, TOKENS)):
        chunk = tile * TOKENS + tl.arange(0, TOKENS)
        both = (chunk < chunks)[:, None] & (entry < k)[None, :]
        at = chunk.to(tl.int64)[:, None] * k + entry[None, :]
        total += tl.load(part_ptr + at, mask=both, other=0.0)
    tl.store(out_ptr + entry, tl.sum(total, axis=0), mask=entry < k)
