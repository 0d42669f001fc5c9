"""The loop. There is one, for every method, backbone and dataset."""

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch

from fewshot_bench.loop_options import LoopOptions
from fewshot_bench.memory import Peak, watch_peak
from fewshot_bench.results import StepTime
from fewshot_bench.schedule import rate
from fewshot_bench.stopping import Stopping
from fewshot_bench.too_large import BatchTooLarge, capacity, fitting_batch
from fewshot_bench.tuned import Tuned
from fewshot_bench.update import precise, update

__all__ = ["FitLog", "NonFiniteLoss", "fit"]

WARMUP_STEPS = 5
"""Steps whose time is not counted: allocators, caches and optimizer state settle in them."""
WATCHED_STEP = 1
"""The step whose memory is measured: by the second one the optimizer's state exists."""

OnStep = Callable[[int, float], None]
OnEpoch = Callable[[int], None]
DEFAULT = LoopOptions()


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
    loop: LoopOptions = DEFAULT,
    epoch_steps: int = 1,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
) -> FitLog:
    r"""Train with cross-entropy for a number of steps.

    Step $t = 0, \dots, T-1$ uses the learning rate $\eta_t$ of `schedule.rate` in every parameter
    group; by default $\eta_t = \tfrac12 \eta (1 + \cos(\pi t / T))$.

    Noise inside the model (dropout) draws from torch's global generator: the caller forks and
    seeds it.

    Args:
        tuned: Model and optimizer; without an optimizer nothing is trained and the memory of one
            forward pass is measured.
        batches: Endless training batches.
        steps: How many updates to make.
        device: Where the model is.
        schedule: `cosine` or `constant`.
        loop: Precision, accumulation, warm-up and when to stop early.
        epoch_steps: Steps of one pass over the training set.
        on_step: Called after each step with its number, from 0, and its loss.
        on_epoch: Called after each pass with the number of its last step.

    Returns:
        Losses, times and memory.

    Raises:
        BatchTooLarge: The device is out of memory; the message says how many examples would fit.
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
    stopping, scaled = Stopping(loop, epoch_steps), precise(loop.precision, device)
    compute = torch.compile(tuned.model) if loop.compile else tuned.model
    with tuned.training():
        for step in range(steps):
            for group, peak in zip(tuned.optimizer.param_groups, peaks, strict=True):
                group["lr"] = rate(
                    peak, step, steps, schedule=schedule, epoch_steps=epoch_steps, loop=loop
                )
            batch = {key: value.to(device) for key, value in next(batches).items()}
            watched = step == min(WATCHED_STEP, steps - 1)
            with watch_peak(tuned, batch, device) if watched else nullcontext(Peak()) as memory:
                start = _now(device)
                try:
                    loss = update(tuned, compute, batch, loop, scaled, log)
                except FloatingPointError as failure:
                    raise NonFiniteLoss(str(failure), step, tuned.rates(), log) from failure
                except torch.OutOfMemoryError:
                    loss = None  # what the failed step holds is freed first
                if loss is None:
                    fits = fitting_batch(tuned, batch, device, capacity(device))
                    raise BatchTooLarge(-(-len(batch["label"]) // loop.accumulate), device, fits)
                seconds = _now(device) - start
            log.peak_memory_bytes = memory.bytes if watched else log.peak_memory_bytes
            log.loss.append(loss)
            log.step_seconds.append(seconds)
            if on_step:
                on_step(step, loss)
            stop = stopping.after(loss, len(batch["label"]))
            if on_epoch and ((step + 1) % epoch_steps == 0 or stop):
                on_epoch(step)
                tuned.model.train()
            if stop:
                break
    return log


def _forward_peak(tuned: Tuned, batch: dict[str, torch.Tensor], device: str) -> int:
    """Measure the memory of one forward pass, for a method that trains nothing."""
    tuned.model.eval()
    batch = {key: value.to(device) for key, value in batch.items()}
    with torch.no_grad(), watch_peak(tuned, batch, device) as memory:
        tuned.model(batch)
    return memory.bytes


def _now(device: str) -> float:
    """Read the clock, after everything that a GPU was asked to do is done."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
