r"""The entries $w_{ji}$ as Triton code, the same bits in every kernel and in torch.

Every product, sum, root and quotient rounds on its own and to nearest, so kernels that use
this are launched with `FIXED`: a fused multiply-add would move a threshold, and with it the mask.

What each kernel reads and writes for one `(m, n)` layer; $f = 4 \cdot heads \cdot dims\,(m + n)$
bytes are the factors, read again by every tile but from the cache:

| kernel | bytes |
|---|---|
| `merge_triton`, float32 weight and result | $8 mn + f$ |
| `merge_triton`, no weight, half result | $2 mn + f$ |
| `fold_triton`, float32 gradient | $4 mn + 2 f + 2 \cdot scratch$ |
| `fold_triton`, half gradient | $2 mn + 2 f + 2 \cdot scratch$ |
| `threshold_triton` | $4 mn + f$ written once, $4 mn$ for each other pass, mostly in the cache |
| `merge_triton` of those entries, float32 | $12 mn$ |

with $scratch = 4 \cdot heads \cdot dims\,mn\,(1/128 + 1/R)$, $R$ the rows of a chunk (`chunking`).

Import this module where it is needed and only where Triton is installed.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["FIXED", "available", "check_factors", "distances", "entries"]

FIXED: dict[str, Any] = {"enable_fp_fusion": False}


RSQRT, RCP = tl.constexpr("rsqrt.approx.ftz.f32"), tl.constexpr("rcp.approx.ftz.f32")


@triton.jit
def approximate(x, instruction: tl.constexpr):
    """One instruction of an NVIDIA GPU, such as `rcp.approx.ftz.f32`, on float32."""
    return tl.inline_asm_elementwise(
        # pyrefly: ignore[bad-argument-type]
        instruction + " $0, $1;",
        "=f,f",
        [x],
        dtype=tl.float32,
        is_pure=True,
        pack=1,
    )


@triton.jit
def inverse_root(squares):
    """One over the root, both rounded to nearest; zero over zero.

    On NVIDIA these are the instructions of `sqrt.rn` and `rcp.rn` for exponents in the middle; a
    power of four takes every number there first. So nothing branches, and all bits are theirs.
    """
    if NVIDIA:
        small = squares < 2.0**-64
        q = squares * tl.where(small, 2.0**64, 1.0)
        guess = approximate(q, RSQRT)
        root = q * guess
        root = tl.fma(tl.fma(-root, root, q), guess * 0.5, root)
        guess = approximate(root, RCP)
        inverse = tl.fma(guess, tl.fma(-root, guess, 1.0), guess) * tl.where(small, 2.0**32, 1.0)
        inverse = tl.where(squares == 0, 0.0, inverse)
    else:
        apart = squares != 0
        inverse = tl.where(apart, tl.div_rn(1.0, tl.sqrt_rn(tl.where(apart, squares, 1.0))), 0.0)
    return inverse


NVIDIA = tl.constexpr(
    isinstance(inverse_root, triton.runtime.JITFunction) and torch.version.hip is None
)
"""Whether kernels are compiled for NVIDIA: neither interpreted nor for AMD."""
NARROW = tl.constexpr(16)
"""Registers hold the coordinates of points if there are at most so many."""


@triton.jit
def distances(inner_ptr, outer_ptr, row, col, m, n, dims: tl.constexpr):
    """Distances of the points of one head, `(rows, cols)`, and one over each; zero over zero.

    As `snell_layers.distance`: the square times one over its root. Finite outside the matrix.
    """
    squares = tl.zeros((row.shape[0], col.shape[0]), tl.float32)
    for d in range(dims):
        b = tl.load(outer_ptr + row * dims + d, mask=row < m, other=0.0)
        a = tl.load(inner_ptr + col * dims + d, mask=col < n, other=0.0)
        difference = b[:, None] - a[None, :]
        squares += difference * difference
    inverse = inverse_root(squares)
    return squares * inverse, inverse


@triton.jit
def coefficient(scales_ptr, head: tl.constexpr, trained: tl.constexpr):
    """The factor of one head on its distances."""
    frozen = 0.1 if head % 2 == 0 else -0.1
    return tl.load(scales_ptr + head) if trained else frozen


@triton.jit
def combined(distances, scales_ptr, heads: tl.constexpr, trained: tl.constexpr):
    """The entries $w$ from the distances of every head."""
    w = tl.load(scales_ptr) * distances[0] if trained else distances[0]
    for head in tl.static_range(1, heads):
        one = tl.load(scales_ptr + head) * distances[head] if trained else distances[head]
        w = w + one if trained or head % 2 == 0 else w - one
    return w if trained else w * 0.1


@triton.jit
def entries(
    inner_ptr,
    outer_ptr,
    scales_ptr,
    row,
    col,
    m,
    n,
    heads: tl.constexpr,
    dims: tl.constexpr,
    trained: tl.constexpr,
):
    """The entries $w$ of one piece at some rows and columns; pointers are the piece's own."""
    found = ()
    for head in tl.static_range(heads):
        inner, outer = inner_ptr + head * n * dims, outer_ptr + head * m * dims
        distance, _ = distances(inner, outer, row, col, m, n, dims)
        found += (distance,)
    return combined(found, scales_ptr, heads, trained)


@triton.jit
def coordinates(points_ptr, at, size, heads: tl.constexpr, dims: tl.constexpr):
    """The coordinates of some points, `(heads, size, dims)`: head after head, one tensor each."""
    found = ()
    for feature in tl.static_range(heads * dims):
        place = (feature // dims) * size * dims + at * dims + feature % dims
        found += (tl.load(points_ptr + place, mask=at < size, other=0.0),)
    return found


@triton.jit
def gaps_squared(a, b, head: tl.constexpr, dims: tl.constexpr):
    """Squared distances of the points of one head, added up in the order of `entries`."""
    difference = b[head * dims] - a[head * dims]
    squares = difference * difference
    for d in tl.static_range(1, dims):
        difference = b[head * dims + d] - a[head * dims + d]
        squares += difference * difference
    return squares


@triton.jit
def held(points_ptr, at, size, heads: tl.constexpr, dims: tl.constexpr):
    """The coordinates of some points, if registers hold them; nothing if there are too many."""
    found = ()
    if heads * dims <= NARROW:
        found = coordinates(points_ptr, at, size, heads, dims)
    return found


@triton.jit
def held_entries(
    a,
    b,
    inner_ptr,
    outer_ptr,
    scales_ptr,
    row,
    col,
    m,
    n,
    heads: tl.constexpr,
    dims: tl.constexpr,
    trained: tl.constexpr,
):
    """As `entries`, from what `held` returned for columns and rows."""
    if heads * dims <= NARROW:
        found = ()
        for head in tl.static_range(heads):
            squares = gaps_squared(a, b, head, dims)
            found += (squares * inverse_root(squares),)
        w = combined(found, scales_ptr, heads, trained)
    else:
        w = entries(inner_ptr, outer_ptr, scales_ptr, row, col, m, n, heads, dims, trained)
    return w


def available(device: torch.device) -> bool:
    r"""Whether the kernels run on a device.

    True for CUDA and ROCm GPUs that Triton compiles for (NVIDIA: capability 7.0 or newer), and for
    the CPU where Triton's interpreter is switched on (`TRITON_INTERPRET=1` before Triton is
    imported).

    Args:
        device: The device of the tensors.

    Returns:
        Whether `merge_triton`, `fold_triton` and `threshold_triton` take tensors of that device.

    Examples:
        >>> import torch
        >>> available(torch.device("meta"))
        False
    """
    if device.type not in ("cuda", "cpu"):
        return False
    if not isinstance(entries, triton.runtime.JITFunction):
        return True  # interpreted
    if device.type == "cpu":
        return False
    return bool(torch.version.hip) or torch.cuda.get_device_capability(device) >= (7, 0)


def check_factors(inner: Tensor, outer: Tensor, **others: Tensor | None) -> None:
    """Refuse what the kernels would misread; `others` may be `scales`, `tau` and `hint`."""
    given = {"inner": inner, "outer": outer, **others}
    pieces, heads, m, dims = outer.shape
    shapes = {
        "inner": (pieces, heads, inner.shape[-2], dims),
        "outer": (pieces, heads, m, dims),
        "scales": (pieces, heads),
        "tau": (pieces,),
        "hint": (pieces,),
    }
    for name, tensor in given.items():
        if tensor is None:
            continue
        if tuple(tensor.shape) != shapes[name] or not tensor.is_contiguous():
            raise ValueError(
                f"{name} is {tuple(tensor.shape)} with strides {tensor.stride()}: pass it "
                f"contiguous and {shapes[name]}."
            )
        if tensor.dtype != torch.float32 or tensor.device != inner.device:
            raise ValueError(
                f"{name} is {tensor.dtype} on {tensor.device}: pass float32 on {inner.device}."
            )
