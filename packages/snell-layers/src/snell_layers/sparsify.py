r"""Competition: only the entries above an order statistic of $|w|$ survive.

The threshold $\tau$ is the $\lceil s\,mn \rceil$-th smallest magnitude of one matrix, and an entry
survives when $|w| > \tau$ holds strictly. So exactly $mn - \lceil s\,mn \rceil$ entries survive,
fewer only where magnitudes tie with $\tau$: ties are dropped, as in the release.

Shapes: matrices `(..., m, n)`, one threshold per matrix `(...)`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["SPARSIFIERS", "Sparsifier", "order_statistic", "removed_entries"]


@dataclass(frozen=True)
class Sparsifier:
    r"""The sparse matrix from $w$ and $\tau$; the gradient of $w$ from that matrix's gradient."""

    value: Callable[[Tensor, Tensor], Tensor]
    gradient: Callable[[Tensor, Tensor, Tensor], Tensor]


def removed_entries(sparsity: float, entries: int) -> int:
    r"""How many of `entries` are set to zero, $\lceil s \cdot mn \rceil$.

    The product is rounded to six decimals first: 0.07 * 100 is 7 entries, although floating point
    says 7.000000000000001.
    """
    return math.ceil(round(sparsity * entries, 6))


def order_statistic(w: Tensor, sparsity: float) -> Tensor:
    """Threshold of every matrix in `w`, exact, without a full sort; zero if nothing is removed."""
    magnitude = w.abs().flatten(-2)
    removed = removed_entries(sparsity, magnitude.shape[-1])
    if removed == 0:
        return magnitude.new_zeros(magnitude.shape[:-1])
    return torch.kthvalue(magnitude, removed, dim=-1).values


def _keep(values: Tensor, w: Tensor, threshold: Tensor) -> Tensor:
    r"""`values` where $|w| > \tau$, else zero; writes into `values`, which the caller just made."""
    return values.masked_fill_(w.abs() <= threshold[..., None, None], 0)


def _released(w: Tensor, threshold: Tensor) -> Tensor:
    r"""$w\,|w|$ on survivors."""
    return _keep(w * w.abs(), w, threshold)


def _released_gradient(grad: Tensor, w: Tensor, threshold: Tensor) -> Tensor:
    r"""$g\,|w|$: the release holds $|w|$ constant, so this is half of the true derivative."""
    return _keep(grad * w.abs(), w, threshold)


def _paper(w: Tensor, threshold: Tensor) -> Tensor:
    r"""Equation 5, $w\,\max(|w| - \tau, 0)$."""
    return w * (w.abs() - threshold[..., None, None]).clamp_min_(0)


def _paper_gradient(grad: Tensor, w: Tensor, threshold: Tensor) -> Tensor:
    r"""$g\,(2|w| - \tau)$ on survivors: the threshold is held constant."""
    return _keep(grad * (2 * w.abs() - threshold[..., None, None]), w, threshold)


def _hard(w: Tensor, threshold: Tensor) -> Tensor:
    """$w$ on survivors."""
    return _keep(w.clone(), w, threshold)


def _hard_gradient(grad: Tensor, w: Tensor, threshold: Tensor) -> Tensor:
    """$g$ on survivors."""
    return _keep(grad.clone(), w, threshold)


SPARSIFIERS: dict[str, Sparsifier] = {
    "released": Sparsifier(_released, _released_gradient),
    "paper": Sparsifier(_paper, _paper_gradient),
    "hard": Sparsifier(_hard, _hard_gradient),
    "none": Sparsifier(lambda w, threshold: w, lambda grad, w, threshold: grad),
}
