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
PROGRAMS = 924  # about so many in all pieces: as many as an H100 runs at once
FEW = 264  # in passes that hardly ever do something: fewer programs leave sooner


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
        raise ValueError(
            f"removed={removed}: pass 0 to m * n = {m * n}, which must be below 2**31."
        )
    if removed == 0:
        return inner.new_zeros(pieces)
    near, binades, second, third = zero_counts(pieces, inner.device)
    guess = near.view(torch.float32) if hint is None else hint
    tau = inner.new_empty(pieces)
    factors = inner, outer, inner if scales is None else scales
    kind = {"heads": heads, "dims": dims, "trained": scales is not None, **BLOCKS, **FIXED}
    many, few = grid(m, n, pieces, PROGRAMS), grid(m, n, pieces, FEW)
    window: Any = count_near[many]
    all_keys: Any = count_binades[few]
    some_keys: Any = count_fine[many]
    single_keys: Any = count_fine[few]
    end: Any = settle[1, pieces]
    with torch.cuda.device_of(inner):
        if hint is not None:
            window(*factors, guess, near, m, n, **kind)
        passed = *factors, guess, near, binades
        all_keys(*passed, m, n, removed, **kind)
        some_keys(*passed, second, second, m, n, removed, third=False, **kind)
        single_keys(*passed, second, third, m, n, removed, third=True, **kind)
        end(guess, near, binades, second, third, tau, removed, num_warps=8, **FIXED)
    return tau


def grid(m: int, n: int, pieces: int, programs: int) -> tuple[int, int]:
    """Programs of a pass: each keeps to its rows, so their number is a multiple of these."""
    down, across = triton.cdiv(m, BLOCKS["ROWS"]), triton.cdiv(n, BLOCKS["COLS"])
    shares = max(1, min(across, programs // (down * pieces)))
    return down * triton.cdiv(across, triton.cdiv(across, shares)), pieces


def zero_counts(pieces: int, device: torch.device) -> tuple[Tensor, ...]:
    """Counts of all passes, in one allocation."""
    sizes = [pieces * bins.value for bins in (NEAR, BINADES, DIGITS, DIGITS)]
    return torch.zeros(sum(sizes), dtype=torch.int32, device=device).split(sizes)
