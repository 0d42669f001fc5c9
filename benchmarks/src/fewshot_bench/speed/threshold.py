r"""The threshold of one matrix alone: the order statistic of $|w|$, by several algorithms."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fewshot_bench.results import StepTime
from fewshot_bench.speed.snell_models import RANK, SPARSITY, has_kernels, plain_torch
from fewshot_bench.speed.timing import in_turns, seconds_of, summary

__all__ = ["OURS", "SHAPES", "Found", "measure_threshold"]

SHAPES = ((768, 3072), (4096, 11008))
"""A layer of ViT-B's MLP, and one of LLaMA-2-7B's."""
OURS = "order_statistic"


@dataclass(frozen=True)
class Found:
    """What one algorithm did.

    Args:
        name: Of the algorithm.
        seconds: Of a call, from w to the threshold.
        survivors: Entries above it.
        differing: Entries that survive there and not with ours, or the other way round.
    """

    name: str
    seconds: StepTime
    survivors: int
    differing: int


def measure_threshold(rows: int, columns: int, rounds: int, device: str = "cpu") -> list[Found]:
    """Time every algorithm in turns on the same matrix, and compare the masks.

    Args:
        rows: Of the matrix.
        columns: Of the matrix.
        rounds: That count.
        device: Where.

    Returns:
        One entry per algorithm, ours last. torch.quantile interpolates between its neighbours of
        position $s(mn - 1)$, as the release asks it to, so that it may keep one entry more.
    """
    w = _matrix(rows, columns, device)
    calls = _calls(w)
    ours = calls[OURS]()
    clock = seconds_of(device)
    timed = in_turns({n: (lambda call=call: call) for n, call in calls.items()}, rounds, clock)
    mask = w.abs() > ours
    found = []
    for name, call in calls.items():
        other = w.abs() > call()
        facts = int(other.sum()), int((other != mask).sum())
        found.append(Found(name, summary(timed[name]), *facts))
    return found


def _matrix(rows: int, columns: int, device: str) -> Tensor:
    """Make a matrix as a layer has it before sparsification."""
    from snell_layers import SnellRule
    from snell_layers.factors import SnellFactors

    draw = torch.Generator().manual_seed(0)
    rule = SnellRule(RANK, SPARSITY)
    factors = SnellFactors(columns, rows, rule, generator=draw, device=torch.device(device))
    with torch.no_grad():
        return rule.matrix(factors.inner[0], factors.outer[0])


def _calls(w: Tensor) -> dict[str, Callable[[], Tensor]]:
    """List the algorithms, each from the matrix to its threshold."""
    from snell_layers.sparsify import order_statistic, removed_entries

    k = removed_entries(SPARSITY, w.numel())
    calls: dict[str, Callable[[], Tensor]] = {
        "sort": lambda: w.abs().flatten().sort().values[k - 1],
        "torch.quantile": lambda: _quantile(w),
        "torch.kthvalue": lambda: w.abs().flatten().kthvalue(k).values,
    }
    if has_kernels():  # else ours is in plain torch
        calls[f"{OURS}, plain torch"] = lambda: _plain(order_statistic, w)
    calls[OURS] = lambda: order_statistic(w, SPARSITY)
    return calls


def _quantile(w: Tensor) -> Tensor:
    """Call torch.quantile as the release does."""
    return torch.quantile(w.abs().flatten(), SPARSITY)


def _plain(call: Callable[[Tensor, float], Tensor], w: Tensor) -> Tensor:
    """Call something of snell_layers without its kernels."""
    with plain_torch():
        return call(w, SPARSITY)
