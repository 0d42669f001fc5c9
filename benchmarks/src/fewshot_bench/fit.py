"""The loop. There is one, for every method, backbone and dataset."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from fewshot_bench.memory import Peak, watch_peak
from fewshot_bench.metrics import gradient_bytes
from fewshot_bench.results import StepTime
from fewshot_bench.tuned import Tuned

__all__ = ["FitLog", "NonFiniteLoss", "fit"]

WARMUP_STEPS = 5
"""Steps whose time is not counted: allocators, caches and optimizer state settle in them."""
WATCHED_STEP = 1
"""The step whose memory is measured: by the second one the optimizer's state exists."""

OnStep = Callable[[int, float], None]


@dataclass
class FitLog:
    """What the loop saw; filled while it runs, so that a failed run keeps its beginning."""

    loss: list[float] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)
    """Of every finished step, the watched one included."""
    peak_memory_bytes: int | None = None
    gradient_bytes: int = 0

    def step_time(self) -> StepTime:
        """Summarise the time of a step: median and quartiles after the warm-up.

        Returns:
            Seconds; `None` when too few steps were run to measure any.
        """
        warmup = min(WARMUP_STEPS, max(WATCHED_STEP + 1, len(self.step_seconds) // 2))
        measured = self.step_seconds[warmup:]
        if not measured:
            return StepTime(None, None, None, len(self.step_seconds), 0)
        q25, median, q75 = np.percentile(measured, [25, 50, 75]).tolist()
        return StepTime(median, q25, q75, warmup, len(measured))


class NonFiniteLoss(ArithmeticError):
    """The loss, or a gradient, became NaN or infinite.

    Args:
        what: What was not finite.
        step: The step, from 0.
        rates: Learning rate of every parameter group in that step.
        log: What was recorded before.
    """

    def __init__(self, what: str, step: int, rates: dict[str, float], log: FitLog) -> None:
        self.step, self.rates, self.log = step, rates, log
        learning = ", ".join(f"{name} {rate:.3g}" for name, rate in rates.items())
        super().__init__(
            f"{what} at step {step} (learning rates: {learning}): "
            "lower the learning rate with --lr or --head-lr"
        )


def fit(
    tuned: Tuned,
    batches: Iterator[dict[str, torch.Tensor]],
    *,
    steps: int,
    device: str = "cpu",
    schedule: str = "cosine",
    on_step: OnStep | None = None,
) -> FitLog:
    r"""Train with cross-entropy for a number of steps.

    Step $t = 0, \dots, T-1$ uses the learning rate $\eta_t$ in every parameter group, with

    $$ \eta_t = \tfrac12 \eta (1 + \cos(\pi t / T)) \quad\text{(cosine)}, \qquad
       \eta_t = \eta \quad\text{(constant)}. $$

    Noise inside the model (dropout) draws from torch's global generator: the caller forks and
    seeds it.

    Args:
        tuned: Model and optimizer; without an optimizer nothing is trained and the memory of one
            forward pass is measured.
        batches: Endless training batches.
        steps: How many updates to make.
        device: Where the model is.
        schedule: `cosine` or `constant`.
        on_step: Called after each step with its number, from 0, and its loss.

    Returns:
        Losses, times and memory.

    Raises:
        NonFiniteLoss: The loss became NaN or infinite; the parameters are those before that step.

    Examples:
        >>> from torch import nn
        >>> class Model(nn.Linear):
        ...     def forward(self, batch):
        ...         return super().forward(batch["image"])
        >>> model = Model(2, 2)
        >>> tuned = Tuned(model, torch.optim.AdamW(model.parameters(), lr=0.1))
        >>> batch = {"image": torch.eye(2), "label": torch.tensor([0, 1])}
        >>> log = fit(tuned, iter([batch] * 9), steps=9)
        >>> log.loss[-1] < log.loss[0]
        True
    """
    log = FitLog()
    if tuned.optimizer is None or steps == 0:
        log.peak_memory_bytes = _forward_peak(tuned, next(batches), device)
        return log
    tuned.model.train()
    peaks = [group["lr"] for group in tuned.optimizer.param_groups]
    with tuned.training():
        for step in range(steps):
            for group, peak in zip(tuned.optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * _factor(schedule, step, steps)
            batch = {key: value.to(device) for key, value in next(batches).items()}
            watched = step == min(WATCHED_STEP, steps - 1)
            with watch_peak(tuned, batch, device) if watched else nullcontext(Peak()) as memory:
                try:
                    loss, seconds = _timed_step(tuned, tuned.optimizer, batch, device, log)
                except FloatingPointError as failure:
                    raise NonFiniteLoss(str(failure), step, tuned.rates(), log) from failure
            log.peak_memory_bytes = memory.bytes if watched else log.peak_memory_bytes
            log.loss.append(loss)
            log.step_seconds.append(seconds)
            if on_step:
                on_step(step, loss)
    return log


def _timed_step(
    tuned: Tuned,
    optimizer: Optimizer,
    batch: dict[str, torch.Tensor],
    device: str,
    log: FitLog,
) -> tuple[float, float]:
    """Make one update, unless the loss is not finite; give the loss and the seconds it took."""
    start = _now(device)
    optimizer.zero_grad(set_to_none=True)
    loss = cross_entropy(tuned.model(batch), batch["label"])
    loss.backward()
    value = loss.item()
    if not math.isfinite(value):
        raise FloatingPointError(f"the loss is {value}")
    if not log.gradient_bytes:
        log.gradient_bytes = gradient_bytes(tuned)
    try:
        optimizer.step()
    except ValueError as refusal:  # SO refuses gradients that are not finite
        raise FloatingPointError(str(refusal).partition(":")[0]) from refusal
    return value, _now(device) - start


def _forward_peak(tuned: Tuned, batch: dict[str, torch.Tensor], device: str) -> int:
    """Measure the memory of one forward pass, for a method that trains nothing."""
    tuned.model.eval()
    batch = {key: value.to(device) for key, value in batch.items()}
    with torch.no_grad(), watch_peak(tuned, batch, device) as memory:
        tuned.model(batch)
    return memory.bytes


def _factor(schedule: str, step: int, steps: int) -> float:
    """Give the share of the peak learning rate that a step uses."""
    return 0.5 * (1 + math.cos(math.pi * step / steps)) if schedule == "cosine" else 1.0


def _now(device: str) -> float:
    """Read the clock, after everything that a GPU was asked to do is done."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
