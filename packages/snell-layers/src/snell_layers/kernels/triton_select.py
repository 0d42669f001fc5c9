r"""The threshold on the GPU: an exact order statistic of $|w|$, without a sort or the host.

Import this module where it is needed and only where Triton is installed.
"""

from typing import Any

import torch
import triton
from torch import Tensor

from .triton_count import (
    BINADES,
    DIGITS,
    NEAR,
    count_binades,
    count_fine,
    count_near,
    settle,
)
from .triton_entries import FIXED, check_factors

__all__ = ["threshold_triton"]

BLOCKS: dict[str, Any] = {"ROWS": 4, "COLS": 128, "num_warps": 4}
BLOCK: dict[str, Any] = {"BLOCK": 2048, "num_warps": 4}
PROGRAMS = 924  # about so many in all pieces: as many as an H100 runs at once
FEW = 264  # in passes that hardly ever do something: fewer programs leave sooner


def threshold_triton(
    inner: Tensor,
    outer: Tensor,
    scales: Tensor | None,
    removed: int,
    *,
    hint: Tensor | None = None,
    entries: Tensor | None = None,
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
        entries: Where to leave $w$, `(pieces * m, n)`, float32, contiguous; `None` if nobody needs
            it. Not written where nothing is removed.

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
        raise ValueError(
            f"removed={removed}: pass 0 to m * n = {m * n}, which must be below 2**31."
        )
    if removed == 0:
        return inner.new_zeros(pieces)
    near, binades, second, third = zero_counts(pieces, inner.device)
    guess = near.view(torch.float32) if hint is None else hint
    tau = inner.new_empty(pieces)
    w = inner.new_empty(pieces * m, n) if entries is None else entries
    first: Any = count_near[grid(m, n, pieces)]
    tiles = triton.cdiv(m * n, BLOCK["BLOCK"])
    many, few = (min(tiles, triton.cdiv(size, pieces)) for size in (PROGRAMS, FEW))
    all_keys: Any = count_binades[few, pieces]
    some_keys: Any = count_fine[many, pieces]
    single_keys: Any = count_fine[few, pieces]
    end: Any = settle[1, pieces]
    kind = {"heads": heads, "dims": dims, "trained": scales is not None, **BLOCKS, **FIXED}
    with torch.cuda.device_of(inner):
        first(inner, outer, inner if scales is None else scales, guess, near, w, m, n, **kind)
        all_keys(w, guess, near, binades, m * n, removed, **BLOCK, **FIXED)
        passed = w, guess, near, binades, second
        some_keys(*passed, second, m * n, removed, third=False, **BLOCK, **FIXED)
        single_keys(*passed, third, m * n, removed, third=True, **BLOCK, **FIXED)
        end(guess, near, binades, second, third, tau, removed, num_warps=8, **FIXED)
    return tau


def grid(m: int, n: int, pieces: int) -> tuple[int, int]:
    """Programs of the first pass: each keeps to its rows, and all have about as many tiles."""
    down, tiles = triton.cdiv(m, BLOCKS["ROWS"]), triton.cdiv(n, BLOCKS["COLS"])
    shares = max(1, min(tiles, PROGRAMS // (down * pieces)))
    return down * triton.cdiv(tiles, triton.cdiv(tiles, shares)), pieces


def zero_counts(pieces: int, device: torch.device) -> tuple[Tensor, ...]:
    """Counts of all passes, in one allocation."""
    sizes = [pieces * bins.value for bins in (NEAR, BINADES, DIGITS, DIGITS)]
    return torch.zeros(sum(sizes), dtype=torch.int32, device=device).split(sizes)
