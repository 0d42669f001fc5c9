r"""Merge on the GPU: the frozen weight plus the thresholded update, in one pass.

Nothing of size $m \times n$ is read but the weight, and nothing is written but the result.
Import this module where it is needed and only where Triton is installed.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .triton_entries import FIXED, check_factors, held, held_entries

__all__ = ["GATES", "gated", "merge_tiles", "merge_triton"]

GATES = ("released", "paper", "hard", "none")
BLOCKS: dict[str, Any] = {"ROWS": 8, "COLS": 128, "num_warps": 4}
RESULTS = {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16, torch.float32: tl.float32}


@triton.jit
def gated(w, tau, gate: tl.constexpr):
    """The sparse matrix from $w$ and the threshold; a NaN is not below it, and stays."""
    magnitude = tl.abs(w)
    if gate == "released":
        value = w * magnitude
    elif gate == "paper":
        value = w * (magnitude - tau)
    else:
        value = w
    if gate != "none":
        value = tl.where(magnitude <= tau, 0.0, value)
    return value


@triton.jit
def narrowed(y, kind: tl.constexpr):
    """Round float32 to the nearest value of a type, ties to even."""
    if kind == tl.bfloat16:
        # By hand, because Triton's interpreter truncates where a GPU rounds.
        bits = y.to(tl.int32, bitcast=True)
        nearest = (bits + (0x7FFF + ((bits >> 16) & 1))) & -0x10000
        y = tl.where(y == y, nearest.to(tl.float32, bitcast=True), y)
    return y.to(kind)


@triton.jit
def merge_tiles(
    inner_ptr,
    outer_ptr,
    scales_ptr,
    tau_ptr,
    weight_ptr,
    w_ptr,
    out_ptr,
    m,
    n,
    weight_stride,
    out_stride,
    factor,
    heads: tl.constexpr,
    dims: tl.constexpr,
    trained: tl.constexpr,
    gate: tl.constexpr,
    known: tl.constexpr,
    merging: tl.constexpr,
    kind: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
):
    """Write one tile of one piece: columns by grid axis 0, rows by 1, pieces by 2."""
    col = tl.program_id(0) * COLS + tl.arange(0, COLS)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    piece = tl.program_id(2).to(tl.int64)
    inside = (row < m)[:, None] & (col < n)[None, :]
    line = (piece * m + row)[:, None]
    if known:
        w = tl.load(w_ptr + line * n + col[None, :], mask=inside, other=0.0)
    else:
        inner_ptr += piece * heads * n * dims
        outer_ptr += piece * heads * m * dims
        scales_ptr += piece * heads
        a = held(inner_ptr, col[None, :], n, heads, dims)
        b = held(outer_ptr, row[:, None], m, heads, dims)
        w = held_entries(
            a, b, inner_ptr, outer_ptr, scales_ptr, row, col, m, n, heads, dims, trained
        )
    tau = 0.0 if gate == "none" else tl.load(tau_ptr + piece)
    value = gated(w, tau, gate) * factor
    if merging:
        place = weight_ptr + line * weight_stride + col[None, :]
        value = tl.load(place, mask=inside, other=0.0).to(tl.float32) + value
    tl.store(out_ptr + line * out_stride + col[None, :], narrowed(value, kind), mask=inside)


def merge_triton(
    inner: Tensor,
    outer: Tensor,
    scales: Tensor | None,
    tau: Tensor | None,
    weight: Tensor | None,
    gate: str,
    out: Tensor,
    *,
    factor: float = 1.0,
    entries: Tensor | None = None,
) -> Tensor:
    r"""Write $W + \Delta W$, or $\Delta W$ alone, into a buffer.

    $$out_{ji} = W_{ji} + factor \cdot \mathrm{gate}_\tau(w_{ji}), \qquad
      w_{ji} = \sum_h c_h \lVert b^h_j - a^h_i \rVert_2$$

    Computed in float32 and cast when written. Nothing waits for the GPU.

    Args:
        inner: $a$, `(pieces, heads, n, dims)`, float32, contiguous.
        outer: $b$, `(pieces, heads, m, dims)`, likewise.
        scales: $c$, `(pieces, heads)`; `None` is the frozen $\pm 0.1$.
        tau: Thresholds `(pieces,)` on the device; `None` only with the gate `"none"`.
        weight: $W$, `(pieces * m, n)`, or `None` for the update alone; it may be `out`.
        gate: One of `GATES`.
        out: `(pieces * m, n)`, float32, float16 or bfloat16.
        factor: Factor on the update, 1 / (1 - p) where a branch was dropped with probability p.
        entries: $w$ as `threshold_triton` left it; it may be `out`. `None` computes it again.

    Returns:
        `out`.

    Raises:
        ValueError: If a shape, type, device or name does not fit.

    Examples:
        >>> import torch
        >>> from snell_layers.kernels.triton_entries import available
        >>> gpu = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        >>> inner, outer = torch.zeros(1, 1, 3, 2, device=gpu), torch.ones(1, 1, 2, 2, device=gpu)
        >>> scales, out = torch.ones(1, 1, device=gpu), torch.empty(2, 3, device=gpu)
        >>> if available(gpu):
        ...     out = merge_triton(inner, outer, scales, None, None, "none", out)
        ...     assert (out == 2**0.5).all()
    """
    check_factors(inner, outer, scales=scales, tau=tau)
    (pieces, heads, m, dims), n = outer.shape, inner.shape[2]
    check_gate(gate, tau)
    check_matrix("out", out, pieces * m, n, inner.device)
    if weight is not None:
        check_matrix("weight", weight, pieces * m, n, inner.device)
    unused = inner  # a pointer that the kernel does not follow
    grid = triton.cdiv(n, BLOCKS["COLS"]), triton.cdiv(m, BLOCKS["ROWS"]), pieces
    run: Any = merge_tiles[grid]
    with torch.cuda.device_of(inner):
        run(
            *(inner, outer, unused if scales is None else scales, unused if tau is None else tau),
            *(
                unused if weight is None else weight,
                unused if entries is None else entries,
                out,
                m,
                n,
            ),
            *(0 if weight is None else weight.stride(0), out.stride(0), float(factor)),
            *(heads, dims, scales is not None, gate, entries is not None, weight is not None),
            RESULTS[out.dtype],
            **BLOCKS,
            **FIXED,
        )
    return out


def check_gate(gate: str, tau: Tensor | None) -> None:
    """Refuse an unknown gate, and a gate without its threshold."""
    if gate not in GATES:
        raise ValueError(f"gate={gate!r} is unknown: pass one of {GATES}.")
    if tau is None and gate != "none":
        raise ValueError(f"tau is None with gate={gate!r}: pass the thresholds, (pieces,).")


def check_matrix(name: str, matrix: Tensor, rows: int, cols: int, device: torch.device) -> None:
    """Refuse a matrix that the kernels would misread."""
    if tuple(matrix.shape) != (rows, cols) or (cols > 1 and matrix.stride(1) != 1):
        raise ValueError(
            f"{name} is {tuple(matrix.shape)} with strides {matrix.stride()}: pass "
            f"({rows}, {cols}) with neighbouring columns."
        )
    if matrix.dtype not in RESULTS or matrix.device != device:
        raise ValueError(
            f"{name} is {matrix.dtype} on {matrix.device}: pass one of {tuple(RESULTS)} on "
            f"{device}."
        )
