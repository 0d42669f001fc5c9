"""The arithmetic of SO: Adam, written once, on whichever entries take part.

Everything here receives tensors and numbers and imports nothing of the package. A matrix is a flat
row of entries; positions are row-major. `u` is the size of the union, `k` of the support.
"""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Entries", "adam_change", "adam_moments_", "largest", "moment_dtype", "so_update"]


class Entries(NamedTuple):
    """Entries of one weight that own Adam moments.

    Attributes:
        positions: Shape `(k,)`, int64, sorted flat positions.
        exp_avg: Shape `(k,)`, first moments $m$.
        exp_avg_sq: Shape `(k,)`, second moments $v$.
        age: Shape `(k,)`, int64, steps since the entry entered; None unless bias is per entry.
    """

    positions: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor
    age: Tensor | None = None

    def take(self, index: Tensor) -> "Entries":
        """Return the entries numbered `index`, in that order."""
        age = None if self.age is None else self.age[index]
        return Entries(self.positions[index], self.exp_avg[index], self.exp_avg_sq[index], age)


def moment_dtype(weight: Tensor) -> torch.dtype:
    """Dtype of the moments of a weight: fp32, or wider if the weight is.

    Args:
        weight: The parameter, of any floating dtype.

    Returns:
        The dtype in which moments and updates are computed.
    """
    return torch.promote_types(weight.dtype, torch.float32)


def adam_moments_(
    grad: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, betas: tuple[float, float]
) -> None:
    r"""Decay both moments in place and add the gradient.

    $m \leftarrow \beta_1 m + (1-\beta_1) g$ and $v \leftarrow \beta_2 v + (1-\beta_2) g^2$. An
    entry without a gradient has $g = 0$: it decays.

    Args:
        grad: $g$, any shape.
        exp_avg: $m$, same shape, changed in place.
        exp_avg_sq: $v$, same shape, changed in place.
        betas: $(\beta_1, \beta_2)$.
    """
    beta1, beta2 = betas
    exp_avg.mul_(beta1).add_(grad * (1 - beta1))
    exp_avg_sq.mul_(beta2).add_(grad * grad * (1 - beta2))


def adam_change(
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    *,
    steps: int | Tensor,
    lr: float | Tensor,
    betas: tuple[float, float],
    eps: float,
) -> Tensor:
    r"""What Adam subtracts from the weight.

    $$\eta \, \frac{m / (1-\beta_1^t)}{\sqrt{v / (1-\beta_2^t)} + \varepsilon}$$

    Args:
        exp_avg: $m$, any shape.
        exp_avg_sq: $v$, same shape.
        steps: $t$, one number, or one per entry in the dtype of the moments.
        lr: $\eta$.
        betas: $(\beta_1, \beta_2)$.
        eps: $\varepsilon$.

    Returns:
        The change, same shape and dtype as the moments.
    """
    beta1, beta2 = betas
    denominator = (exp_avg_sq / (1 - beta2**steps)).sqrt_().add_(eps)
    return (exp_avg / (1 - beta1**steps)).div_(denominator).mul_(lr)


def largest(exp_avg: Tensor, k: int) -> Tensor:
    """Indices of the `k` entries with the largest $|m|$, ascending.

    Ties keep the entry with the lower position: the sort is stable, so every device agrees.

    Args:
        exp_avg: $m$ of the union in order of position, shape `(u,)`.
        k: How many survive.

    Returns:
        Shape `(k,)`, int64, ascending, so positions taken with it stay sorted.
    """
    order = exp_avg.abs().argsort(descending=True, stable=True)
    return order[:k].sort().values


def so_update(
    kept: Entries,
    support: Tensor,
    grad: Tensor,
    *,
    steps: int,
    lr: float | Tensor,
    betas: tuple[float, float],
    eps: float,
    prune: str,
) -> tuple[Entries, Tensor, Tensor]:
    r"""One SO step of one matrix: Adam on the union, then prune by importance.

    With kept set $K$ and support $S$, the moments of $U = K \cup S$ advance (entries of $K$ alone
    have no gradient and decay, entries of $S$ alone start from zero). The $k = |S|$ entries of $U$
    with the largest $|m|$ become the next $K$. `prune="after_update"` moves the weights on all of
    $U$, `"before_update"` only on the new $K$.

    Args:
        kept: $K$ with its moments; not changed.
        support: $S$, shape `(k,)`, sorted.
        grad: Gradient at $S$, shape `(k,)`, in the dtype of the moments.
        steps: $t$ of this matrix, from 1.
        lr: Learning rate.
        betas: Adam's decay rates.
        eps: Adam's denominator term.
        prune: "after_update" (the release) or "before_update" (the paper's equations).

    Returns:
        The next $K$, the positions that move (sorted), and what to subtract there.

    Reference:
        Mrabah et al. 2025 (arXiv 2504.12436), the SO algorithm.
    """
    union = torch.unique(torch.cat([kept.positions, support]))
    at_kept = torch.searchsorted(union, kept.positions)
    grad_union = _spread(grad, torch.searchsorted(union, support), len(union))
    age = None if kept.age is None else _spread(kept.age, at_kept, len(union)) + 1
    grown = Entries(
        union,
        _spread(kept.exp_avg, at_kept, len(union)),
        _spread(kept.exp_avg_sq, at_kept, len(union)),
        age,
    )
    adam_moments_(grad_union, grown.exp_avg, grown.exp_avg_sq, betas)
    survivors = grown.take(largest(grown.exp_avg, len(support)))
    moved = grown if prune == "after_update" else survivors
    ages = steps if moved.age is None else moved.age.to(moved.exp_avg.dtype)
    change = adam_change(moved.exp_avg, moved.exp_avg_sq, steps=ages, lr=lr, betas=betas, eps=eps)
    return survivors, moved.positions, change


def _spread(values: Tensor, index: Tensor, size: int) -> Tensor:
    """Zeros of length `size` holding `values` at `index`."""
    return values.new_zeros(size).index_copy_(0, index, values)
