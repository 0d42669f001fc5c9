"""The learning rate over time."""

import math

from fewshot_bench.loop_options import LoopOptions

__all__ = ["rate"]


def rate(
    peak: float, step: int, steps: int, *, schedule: str, epoch_steps: int, loop: LoopOptions
) -> float:
    r"""Give the learning rate of one parameter group in one step.

    With $t$ the steps done, $T$ all of them, $w$ those of the warm-up:

    $$ \eta_t = \eta_0 + (\eta - \eta_0)\,t / w \;(t < w), \qquad
       \eta_t = \eta_{\min} + \tfrac12 (\eta - \eta_{\min}) (1 + \cos(\pi t / T)) \;(t \ge w) $$

    A constant schedule has $\eta_t = \eta$ after the warm-up. Where rates change with epochs,
    $t$ and $T$ count epochs, and $t$ is that of the epoch before, as timm's scheduler has it when
    it is stepped at the end of an epoch.

    Args:
        peak: $\eta$ of the group.
        step: $t$, from 0.
        steps: $T$.
        schedule: `cosine` or `constant`.
        epoch_steps: Steps of one pass over the training set.
        loop: Gives $\eta_{\min}$, $\eta_0$, the warm-up and what rates change with.

    Returns:
        The rate.

    Examples:
        >>> options = {"schedule": "cosine", "epoch_steps": 1, "loop": LoopOptions(min_lr=0.1)}
        >>> [round(rate(1.0, t, 4, **options), 2) for t in (0, 2, 4)]
        [1.0, 0.55, 0.1]
    """
    time, end, warmup = step, steps, loop.warmup_epochs * epoch_steps
    if loop.rate_changes == "epoch":
        time = max(step // epoch_steps - 1, 0)
        end, warmup = max(steps // epoch_steps, 1), loop.warmup_epochs
    if time < warmup:
        return loop.warmup_lr + (peak - loop.warmup_lr) * time / warmup
    if schedule == "constant":
        return peak
    low = min(loop.min_lr, peak)
    return low + (peak - low) * (0.5 * (1 + math.cos(math.pi * time / end)))
