"""The sampled product as a Triton kernel: the gradient of k weights from what the layer saw.

Import this module where it is needed and only where Triton is installed; nothing else in the
package imports Triton.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from so_optim.kernels.products import chunk_sums, partial_sums

__all__ = ["REBUILDS", "available", "sampled_product_triton"]

REBUILDS = ("identity", "layernorm", "gelu", "gelu_tanh", "quick_gelu", "silu")
"""What can be applied to the gathered inputs: the names of $f$."""

# Fixed, and never tuned at run time: they set the order of summation, and with it the last bit.
BLOCKS = {"ENTRIES": 128, "TOKENS": 16, "enable_fp_fusion": True}
PROGRAMS = 1024

TRITON_DTYPES = {
    torch.float16: tl.float16,
    torch.bfloat16: tl.bfloat16,
    torch.float32: tl.float32,
    torch.float64: tl.float64,
}


def available(device: torch.device) -> bool:
    r"""Whether the kernels of this module run on a device.

    True for CUDA and ROCm GPUs that Triton compiles for (NVIDIA: capability 7.0 or newer), and for
    every device where Triton's interpreter is switched on (`TRITON_INTERPRET=1` before this
    module is imported).

    Args:
        device: the device of the tensors.

    Returns:
        Whether `sampled_product_triton` takes tensors of that device.

    Examples:
        >>> import torch
        >>> available(torch.device("meta"))
        False
    """
    if device.type not in ("cuda", "cpu"):
        return False
    if not isinstance(partial_sums, triton.runtime.JITFunction):
        return True  # interpreted
    if device.type == "cpu":
        return False
    return bool(torch.version.hip) or torch.cuda.get_device_capability(device) >= (7, 0)


def sampled_product_triton(
    dy: Tensor,
    x: Tensor,
    rows: Tensor,
    cols: Tensor,
    *,
    rebuild: str = "identity",
    mean: Tensor | None = None,
    rstd: Tensor | None = None,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    r"""Compute a weight gradient at k entries from output gradient and input, in one pass.

    $$g_e = \sum_{b=1}^{N} dy_{b, i_e}\, f(x)_{b, j_e}, \qquad e = 1, \dots, k$$

    where $f$ gives the layer's input back from what a neighbour has kept anyway: its own
    input (`"identity"`), the input of the LayerNorm before it, with the statistics
    (`"layernorm"`: $(x - \mu_b)\,r_b\,\gamma_j + \beta_j$), or the input of the activation before
    it (`"gelu"`, `"gelu_tanh"`, `"silu"`, `"quick_gelu"`: $x\,\sigma(1.702\,x)$). Every $f(x)$ is
    rounded to `dtype`, as the forward rounded it. Sums are in float32 (float64 for float64), in an
    order that depends on $k$ and $N$ only and without atomics: two calls agree to the last bit.

    It is not differentiable, works under `torch.compile` as one opaque operator, and never
    waits for the GPU; so the positions are not checked, and one outside the matrix reads
    memory that is not its own.

    Args:
        dy: gradient of the layer's output, $(N, m)$, float16, bfloat16, float32 or float64,
            rows of any stride.
        x: what $f$ is applied to, $(N, n)$, likewise.
        rows: output index $i_e$ of every entry, $(k,)$, int32 or int64, ascending (any order is
            right, ascending is fast).
        cols: input index $j_e$ of every entry, $(k,)$, likewise.
        rebuild: the name of $f$, one of `REBUILDS`.
        mean: $\mu$, $N$ values of any shape, only for `"layernorm"`.
        rstd: $r = 1 / \sqrt{\mathrm{var} + \epsilon}$, $N$ values, only for `"layernorm"`.
        gamma: LayerNorm's weight, $(n,)$, or None for ones.
        beta: LayerNorm's bias, $(n,)$, or None for zeros.
        dtype: the type in which the forward multiplied: x's own if None, autocast's type under
            autocast.

    Returns:
        $g$, $(k,)$, float32, or float64 if `dy` or `x` is float64.

    Raises:
        ValueError: if a name, shape, type or device does not fit.

    Examples:
        >>> import torch
        >>> device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        >>> dy, x = torch.ones(3, 4, device=device), torch.ones(3, 5, device=device)
        >>> entries = torch.tensor([0, 3], device=device), torch.tensor([2, 2], device=device)
        >>> g = (
        ...     sampled_product_triton(dy, x, *entries)
        ...     if available(device)
        ...     else (dy.T @ x)[entries]
        ... )
        >>> g.tolist()
        [3.0, 3.0]
    """
    check_shapes(dy, x, rows, cols)
    dtype = x.dtype if dtype is None else dtype
    check_rebuild(x, rebuild, dtype, mean=mean, rstd=rstd, gamma=gamma, beta=beta)
    with torch.no_grad():
        return sampled_product_op(dy, x, rows, cols, rebuild, mean, rstd, gamma, beta, dtype)


def check_shapes(dy: Tensor, x: Tensor, rows: Tensor, cols: Tensor) -> None:
    """Refuse shapes and types that do not belong together."""
    if dy.ndim != 2 or x.ndim != 2 or len(dy) != len(x):
        raise ValueError(
            f"dy {tuple(dy.shape)} and x {tuple(x.shape)} must be matrices with one row per token: "
            "flatten the leading dimensions of both."
        )
    if rows.ndim != 1 or rows.shape != cols.shape:
        raise ValueError(
            f"rows {tuple(rows.shape)} and cols {tuple(cols.shape)} must be two vectors of one "
            "length: pass one row and one column per entry."
        )
    floats, integers = tuple(TRITON_DTYPES), (torch.int32, torch.int64)
    allowed = {"dy": floats, "x": floats, "rows": integers, "cols": integers}
    for (name, dtypes), tensor in zip(allowed.items(), (dy, x, rows, cols), strict=True):
        if tensor.dtype not in dtypes:
            raise ValueError(f"{name} is {tensor.dtype}: pass one of {dtypes}.")
        if tensor.device != dy.device:
            raise ValueError(f"{name} is on {tensor.device} and dy on {dy.device}: move it there.")


def check_rebuild(x: Tensor, rebuild: str, dtype: torch.dtype, **given: Tensor | None) -> None:
    """Refuse an unknown name, and statistics that are missing, unused or of another length."""
    if rebuild not in REBUILDS:
        raise ValueError(f"rebuild={rebuild!r} is unknown: pass one of {REBUILDS}.")
    if dtype not in TRITON_DTYPES:
        raise ValueError(f"dtype={dtype} is not supported: pass one of {tuple(TRITON_DTYPES)}.")
    for name, tensor in given.items():
        length = x.shape[0] if name in ("mean", "rstd") else x.shape[1]
        if rebuild != "layernorm" and tensor is not None:
            raise ValueError(f"{name} is given with rebuild={rebuild!r}: pass None.")
        if rebuild == "layernorm" and tensor is None and name in ("mean", "rstd"):
            raise ValueError(f"{name} is None with rebuild='layernorm': pass its {length} values.")
        if tensor is not None and tensor.numel() != length:
            raise ValueError(f"{name} has {tensor.numel()} values: pass {length} for x {x.shape}.")
        if tensor is not None and tensor.device != x.device:
            raise ValueError(f"{name} is on {tensor.device} and x on {x.device}: move it there.")


def sum_dtype(dy: Tensor, x: Tensor) -> torch.dtype:
    """The type of the sums: float32, or float64 where an operand is float64."""
    return torch.float64 if torch.float64 in (dy.dtype, x.dtype) else torch.float32


def chunking(k: int, n: int) -> tuple[int, int, int]:
    """Return blocks of entries, chunks of tokens, and tiles per chunk."""
    blocks, tiles = triton.cdiv(k, BLOCKS["ENTRIES"]), triton.cdiv(n, BLOCKS["TOKENS"])
    per_chunk = triton.cdiv(tiles, max(1, PROGRAMS // blocks))
    return blocks, triton.cdiv(tiles, per_chunk), per_chunk


def kernel_types(x: Tensor, rebuild: str, dtype: torch.dtype, total: torch.dtype) -> dict[str, Any]:
    """What the kernel applies and where it rounds: at the activation, then at autocast's cast."""
    again = dtype if rebuild == "layernorm" or dtype != x.dtype else total
    types = {"wide": total, "kind": x.dtype, "then": again}
    return {"rebuild": rebuild} | {name: TRITON_DTYPES[t] for name, t in types.items()}


def launch(
    dy: Tensor,
    x: Tensor,
    rows: Tensor,
    cols: Tensor,
    rebuild: str,
    mean: Tensor | None,
    rstd: Tensor | None,
    gamma: Tensor | None,
    beta: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    """Run the kernel, then add the chunks in order."""
    k, n, total = len(rows), len(dy), sum_dtype(dy, x)
    if not k or not n:
        return dy.new_zeros(k, dtype=total)
    dy, x = (t if t.stride(1) == 1 else t.contiguous() for t in (dy, x))
    blocks, chunks, tiles = chunking(k, n)
    part, out = dy.new_empty(chunks, k, dtype=total), dy.new_empty(k, dtype=total)
    # A pointer that is not read must still be one; x's stands in.
    norm = [x if t is None else t.contiguous() for t in (mean, rstd, gamma, beta)]
    types = kernel_types(x, rebuild, dtype, total)
    sum_tokens: Any = partial_sums[(blocks, chunks)]
    sum_chunks: Any = chunk_sums[(blocks,)]
    with torch.cuda.device_of(dy):
        sum_tokens(
            *(dy, x, rows.contiguous(), cols.contiguous(), *norm, part),
            *(k, n, dy.stride(0), x.stride(0), tiles),
            **(types | {"has_gamma": gamma is not None, "has_beta": beta is not None}),
            **BLOCKS,
        )
        sum_chunks(part, out, k, chunks, **BLOCKS)
    return out


sampled_product_op = torch.library.custom_op(
    "so_optim::sampled_product_triton",
    launch,
    mutates_args=(),
    schema="(Tensor dy, Tensor x, Tensor rows, Tensor cols, str rebuild, Tensor? mean, "
    "Tensor? rstd, Tensor? gamma, Tensor? beta, ScalarType dtype) -> Tensor",
)


@sampled_product_op.register_fake
def launch_fake(
    dy: Tensor, x: Tensor, rows: Tensor, cols: Tensor, *_: str | Tensor | torch.dtype | None
) -> Tensor:
    """What comes out, for tracing: shape and type."""
    return dy.new_empty(rows.shape, dtype=sum_dtype(dy, x))
