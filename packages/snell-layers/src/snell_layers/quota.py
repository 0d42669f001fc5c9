"""How many entries a model may keep at a time, and how layers share them: plain numbers alone."""

import math

__all__ = ["cubic_budget", "share_out"]


def cubic_budget(
    time: float,
    start: float,
    end: float,
    total: float,
    *,
    warmup: float = 0,
    final_warmup: float = 0,
) -> int:
    r"""Budget that falls from `start` to `end` with the cube of the time that is left.

    $$K(t) = K_T + (K_0 - K_T) \left(1 - \frac{t - t_0}{T - t_0 - t_1}\right)^3$$

    Args:
        time: $t$, in the unit of `total`.
        start: $K_0$, the budget up to `warmup`.
        end: $K_T$, the budget after `total - final_warmup`.
        total: $T$, length of the training.
        warmup: $t_0$.
        final_warmup: $t_1$.

    Returns:
        Whole entries, rounded down.

    Examples:
        >>> from snell_layers.quota import cubic_budget
        >>> [cubic_budget(epoch, 1000, 200, 100) for epoch in (0, 1, 10, 25, 50, 75, 99)]
        [1000, 976, 783, 537, 300, 212, 200]

    Reference:
        AdaLoRA, arXiv 2303.10512, equation 12, as in the release of SNELLA.
    """
    if time <= warmup:
        budget = start
    elif time > total - final_warmup:
        budget = end
    else:
        left = 1 - (time - warmup) / (total - warmup - final_warmup)
        budget = end + (start - end) * left**3
    return math.floor(round(budget, 6))  # 0.1 * 1000 entries are 100, whatever floats say


def share_out(budget: int, scores: list[float], *, least: list[int], most: list[int]) -> list[int]:
    r"""Whole quotas $\min(most, \lambda\,score)$ that add up to the budget, or to all of `most`.

    Args:
        budget: Entries to share out; never less than the sum of `least`.
        scores: Importance of every layer, at least 0.
        least: Fewest entries of every layer; layers that fall short take from the largest quotas.
        most: Most entries of every layer.

    Returns:
        Entries of every layer. What rounding down leaves goes to the largest remainders.

    Examples:
        >>> from snell_layers.quota import share_out
        >>> share_out(100, [0.8, 0.1, 0.1], least=[1, 1, 1], most=[40, 80, 80])
        [40, 30, 30]
    """
    budget = max(min(budget, sum(most)), sum(least))
    exact = _fill(budget, scores, most)
    quotas = [int(share) for share in exact]
    rest = budget - sum(quotas)
    for i in sorted(range(len(scores)), key=lambda i: quotas[i] - exact[i]):
        more = min(rest, 1, most[i] - quotas[i])
        quotas[i], rest = quotas[i] + more, rest - more
    raised = [max(quota, low) for quota, low in zip(quotas, least, strict=True)]
    owed = sum(raised) - budget
    while owed > 0:
        i = max(range(len(raised)), key=lambda i: raised[i] - least[i])
        taken = min(owed, raised[i] - least[i])
        raised[i], owed = raised[i] - taken, owed - taken
    return raised


def _fill(budget: float, scores: list[float], most: list[int]) -> list[float]:
    """Shares in proportion to the scores; what a full layer cannot take is shared out again."""
    shares = [0.0] * len(scores)
    weights = list(scores)
    while budget > 0:
        room = [i for i, limit in enumerate(most) if shares[i] < limit]
        if not any(weights[i] > 0 for i in room):
            weights = [float(limit) for limit in most]  # nothing but layers without a score is left
        total = sum(weights[i] for i in room)
        wanted = {i: budget * weights[i] / total for i in room}
        full = [i for i in room if wanted[i] >= most[i]]
        for i in full or room:
            shares[i] = float(most[i]) if full else wanted[i]
        if not full:
            break
        budget -= sum(most[i] for i in full)
    return shares
