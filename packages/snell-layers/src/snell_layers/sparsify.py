r"""Competition: only the entries above an order statistic of $|w|$ survive.

The threshold $\tau$ is the $\lceil s\,mn \rceil$-th smallest magnitude of one matrix, and an entry
survives when $|w| > \tau$ holds strictly. So exactly $mn - \lceil s\,mn \rceil$ entries survive,
fewer only where magnitudes tie with $\tau$: ties are dropped, as in the release.

Both functions of a sparsifier work in place on matrices `(..., m, n)`, or tiles of them, with one
threshold `()` for all of it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .distance import can_be_asked
from .select import kth_magnitude

__all__ = ["SPARSIFIERS", "Sparsifier", "order_statistic", "removed_entries"]


@dataclass(frozen=True)
class Sparsifier:
    r"""What an entry becomes, and what its gradient is multiplied by; both from $w$ and $\tau$.

    Attributes:
        value_: Turns $w$ into the sparse matrix, in place.
        slope_: Turns $w$ into the factor on the gradient, in place.
        is_product: Whether the sparse matrix is $w$ times that factor, to the last bit.
    """

    value_: Callable[[Tensor, Tensor], Tensor]
    slope_: Callable[[Tensor, Tensor], Tensor]
    is_product: bool = True


def removed_entries(sparsity: float, entries: int) -> int:
    r"""How many of `entries` are set to zero, $\lceil s \cdot mn \rceil$.

    The product is rounded to six decimals first: 0.07 * 100 is 7 entries, although floating point
    says 7.000000000000001.
    """
    return math.ceil(round(sparsity * entries, 6))


def order_statistic(w: Tensor, sparsity: float, hint: Tensor | None = None) -> Tensor:
    """Threshold of every matrix in `w`, exact, without a sort; zero if nothing is removed.

    Args:
        w: Matrices `(..., m, n)`.
        sparsity: Share of entries at or below the threshold.
        hint: Thresholds `(...)` that may be close, such as the last step's: a warm start.

    Returns:
        The thresholds `(...)`.
    """
    flat = w.flatten(-2).reshape(-1, w.shape[-2] * w.shape[-1])
    removed = removed_entries(sparsity, flat.shape[-1])
    if removed == 0:
        return w.new_zeros(w.shape[:-2])
    hints = [None] * len(flat) if hint is None else hint.reshape(-1).unbind()
    found = [kth_magnitude(row, removed, near) for row, near in zip(flat, hints, strict=True)]
    return torch.stack(found).view(w.shape[:-2])


def _survivors(w: Tensor, threshold: Tensor) -> Tensor:
    r"""$|w|$ where it is above the threshold, else zero."""
    magnitude = w.abs()
    if can_be_asked(magnitude):
        return torch.threshold_(magnitude, threshold.item(), 0.0)  # one pass, no mask in memory
    return torch.where(magnitude <= threshold, 0, magnitude)  # a NaN stays one


def _released(w: Tensor, threshold: Tensor) -> Tensor:
    r"""$w\,|w|$ on survivors."""
    return w.mul_(_survivors(w, threshold))


def _released_slope(w: Tensor, threshold: Tensor) -> Tensor:
    r"""$|w|$: the release holds it constant, so this is half of the true derivative."""
    return w.copy_(_survivors(w, threshold))


def _paper(w: Tensor, threshold: Tensor) -> Tensor:
    r"""Equation 5, $w\,\max(|w| - \tau, 0)$."""
    return w.mul_(w.abs().sub_(threshold).clamp_min_(0))


def _paper_slope(w: Tensor, threshold: Tensor) -> Tensor:
    r"""$2|w| - \tau$ on survivors: the threshold is held constant."""
    return w.copy_(_survivors(w, threshold).mul_(2).sub_(threshold).clamp_min_(0))


def _hard(w: Tensor, threshold: Tensor) -> Tensor:
    """$w$ on survivors."""
    return w.mul_(_survivors(w, threshold).sign_())


def _hard_slope(w: Tensor, threshold: Tensor) -> Tensor:
    """One on survivors."""
    return w.copy_(_survivors(w, threshold).sign_())


SPARSIFIERS: dict[str, Sparsifier] = {
    "released": Sparsifier(_released, _released_slope),
    "paper": Sparsifier(_paper, _paper_slope, is_product=False),
    "hard": Sparsifier(_hard, _hard_slope),
    "none": Sparsifier(lambda w, threshold: w, lambda w, threshold: w.fill_(1)),
}
