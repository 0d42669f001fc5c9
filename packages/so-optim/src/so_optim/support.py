"""Which entries of a weight are trained: how many, and where.

Unusual here: a support is a pure function of (seed, parameter number, draw number). No generator
state is ever stored, so a checkpoint, a copy or another rank continues with exactly the same
supports, and a support can be known before the forward pass.
"""

import hashlib

import torch
from torch import Tensor

__all__ = ["draw_support", "support_size", "support_stream"]


def support_size(n: int, density: float) -> int:
    r"""Number of trained entries among `n`.

    $$k = \max(1, \lfloor n\rho \rfloor)$$

    with a floor that forgives what floating point loses: `1 - 0.99995` is a little below 5e-5, and
    a plain floor would give 99 entries of 2,000,000 instead of 100.

    Args:
        n: Number of entries of the weight, at least 1.
        density: $\rho$, the fraction of entries in the support, in (0, 1].

    Returns:
        $k$, between 1 and `n`.

    Raises:
        ValueError: If `n` is below 1 or `density` is outside (0, 1].

    Examples:
        >>> support_size(2_000_000, 1 - 0.99995)
        100
        >>> support_size(2 * 768, 5e-5)  # never frozen
        1

    Reference:
        Mrabah et al. 2025 (arXiv 2504.12436): the fraction kappa. The release floors without
        tolerance and lets k be 0, which freezes small tensors.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1 but is {n}: an empty weight has no support")
    if not 0.0 < density <= 1.0:
        raise ValueError(
            f"density must be in (0, 1] but is {density}: pass the trained fraction, e.g. 5e-4"
        )
    # 1 - s is known to about 2^-53 and the product adds as much again.
    tolerance = n * 2.0**-51
    return min(n, max(1, int(n * density + tolerance)))


def draw_support(n: int, k: int, generator: torch.Generator) -> Tensor:
    """Draw `k` distinct positions of `n`, uniformly over all such subsets.

    Missing positions are redrawn until `k` distinct ones are there. Every round treats all
    positions alike and stops by count alone, so the result is uniform. About `k` numbers are drawn
    and no list of `n` is built unless `k` is above `n / 2`, where the complement is drawn instead.

    Args:
        n: Number of positions.
        k: Size of the subset, from 0 to `n`.
        generator: CPU generator, so that a seed means the same support on every device.

    Returns:
        Shape `(k,)`, int64, sorted, on the CPU.

    Raises:
        ValueError: If `k` is outside 0 to `n`.

    Examples:
        >>> draw_support(10, 3, torch.Generator().manual_seed(0)).shape
        torch.Size([3])
    """
    if not 0 <= k <= n:
        raise ValueError(f"k must be between 0 and n={n} but is {k}: draw at most n positions")
    if 2 * k > n:
        chosen = torch.ones(n, dtype=torch.bool)
        chosen[draw_support(n, n - k, generator)] = False
        return chosen.nonzero().view(-1)
    support = torch.empty(0, dtype=torch.int64)
    while len(support) < k:
        more = torch.randint(n, (k - len(support),), generator=generator)
        support = torch.unique(torch.cat([support, more]))
    return support


def support_stream(seed: int, parameter: int, draw: int) -> torch.Generator:
    """CPU generator of one draw of one parameter.

    Args:
        seed: The optimizer's seed.
        parameter: Number of the parameter, counted over all groups in order.
        draw: Number of the draw, 0 for the first support.

    Returns:
        A fresh generator, independent of the global random state.

    Examples:
        >>> draw_support(10, 3, support_stream(0, 1, 2)).equal(
        ...     draw_support(10, 3, support_stream(0, 1, 2))
        ... )
        True
    """
    # torch's CPU generator reads 32 bits of its seed, so neighbouring numbers are hashed apart.
    digest = hashlib.blake2b(f"{seed}/{parameter}/{draw}".encode(), digest_size=4).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))
