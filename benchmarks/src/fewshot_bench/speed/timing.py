"""Seconds per training step of several variants, taken in turns: all see the same machine."""

import functools
import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from fewshot_bench.results import StepTime
from fewshot_bench.speed.compiled import Compiled
from fewshot_bench.speed.variants import VARIANTS, Choice, train_step
from fewshot_bench.speed.workload import make_batch, make_workload
from fewshot_bench.tuned import Tuned

__all__ = ["Precision", "Setting", "in_turns", "prepare", "seconds_of", "summary"]

WARMUP_ROUNDS = 2
Precision = Literal["fp32", "bf16", "autocast"]


@dataclass(frozen=True)
class Setting:
    """What is the same for all variants of a comparison.

    Args:
        model: A backbone of the catalog.
        batch: Examples.
        depth: Blocks of each tower; `None` keeps all.
        device: Where.
        precision: `bf16` also keeps the weights in bf16, `autocast` in fp32.
        graph: Replay the whole step as one CUDA graph.
    """

    model: str
    batch: int
    depth: int | None = None
    device: str = "cpu"
    precision: Precision = "fp32"
    graph: bool = False


def prepare(setting: Setting, choice: Choice) -> Callable[[], None]:
    """Build a model for one variant.

    Args:
        setting: Model, batch, device.
        choice: The variant.

    Returns:
        What does one training step when called.

    Raises:
        NotImplementedError: The variant cannot be built here; the message says why.
    """
    variant, choice = VARIANTS[choice.variant], replace(choice, graph=setting.graph)
    workload = make_workload(
        setting.model, setting.depth, split=variant.split, device=setting.device
    )
    dtype = torch.bfloat16 if setting.precision == "bf16" else torch.float32
    workload.model.to(setting.device, dtype)
    shaped = variant.shape(workload, choice)
    optimizer = variant.optimizer(workload, shaped, choice)
    if variant.budget is not None:
        shaped = Compiled(shaped, variant.budget)
    tuned = Tuned(shaped, optimizer)
    batch = {
        name: values.to(setting.device, dtype if values.is_floating_point() else values.dtype)
        for name, values in make_batch(workload, setting.batch).items()
    }
    step = _step(tuned, batch, setting, functools.partial(variant.context, choice))
    return _captured(step) if setting.graph else step


def in_turns(
    steps: Mapping[str, Callable[[], Callable[[], Any]]],
    rounds: int,
    clock: Callable[[Callable[[], Any]], float],
    *,
    keep: bool = True,
    on_round: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """Time steps in turns, A B C A B C, after rounds that do not count.

    Args:
        steps: Label to what builds the step.
        rounds: Rounds that count.
        clock: Gives the seconds of a call, as `seconds_of` does.
        keep: Build everything once; otherwise build, warm up, time and drop it every time, for
            models that do not fit side by side.
        on_round: Called after every step, for a progress bar.

    Returns:
        Label to seconds of the rounds that count, in order.

    Examples:
        >>> calls = []
        >>> steps = {name: (lambda name=name: lambda: calls.append(name)) for name in "AB"}
        >>> _ = in_turns(steps, 1, seconds_of("cpu"))
        >>> "".join(calls)
        'ABABAB'
    """
    built = {label: make() for label, make in steps.items()} if keep else {}
    seconds: dict[str, list[float]] = {label: [] for label in steps}
    for number in range(WARMUP_ROUNDS * keep + rounds):
        for label, make in steps.items():
            step = built.get(label) or _warmed_up(make)
            taken = clock(step)
            if number >= WARMUP_ROUNDS * keep:
                seconds[label].append(taken)
            del step
            on_round()
    return seconds


def seconds_of(device: str) -> Callable[[Callable[[], Any]], float]:
    """Choose the clock: the processor's own time of this process, or events on a GPU.

    Args:
        device: Where the step runs.

    Returns:
        From a function to the seconds that a call of it takes.
    """
    return _gpu_seconds if torch.device(device).type == "cuda" else _cpu_seconds


def summary(seconds: Sequence[float], warmup: int = WARMUP_ROUNDS) -> StepTime:
    """Sum up measured seconds.

    Args:
        seconds: Of the rounds that count.
        warmup: How many did not count.

    Returns:
        Median and quartiles.

    Examples:
        >>> summary([3.0, 1.0, 2.0]).median
        2.0
    """
    if len(seconds) == 1:
        low = high = seconds[0]
    else:
        low, _, high = statistics.quantiles(seconds, method="inclusive")
    return StepTime(statistics.median(seconds), low, high, warmup, len(seconds))


def _step(
    tuned: Tuned,
    batch: dict[str, Tensor],
    setting: Setting,
    context: Callable[[], AbstractContextManager[object]],
) -> Callable[[], None]:
    """Make the call that does one step."""
    kind = torch.device(setting.device).type

    def step() -> None:
        mixed = setting.precision == "autocast"
        with torch.autocast(kind, torch.bfloat16) if mixed else nullcontext(), context():
            train_step(tuned, batch)

    return step


def _warmed_up(make: Callable[[], Callable[[], Any]]) -> Callable[[], Any]:
    """Build a step and do it often enough that its optimizer has its state."""
    gc.collect()  # the model before this one
    step = make()
    for _ in range(WARMUP_ROUNDS):
        step()
    return step


def _cpu_seconds(step: Callable[[], Any]) -> float:
    """Measure processor time, which other processes on the machine do not add to."""
    begin = time.process_time()
    step()
    return time.process_time() - begin


def _gpu_seconds(step: Callable[[], Any]) -> float:
    """Measure between two events of the current stream."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    step()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3


def _captured(step: Callable[[], None]) -> Callable[[], None]:
    """Record a step as a CUDA graph; some steps on a side stream come first, as CUDA demands."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return functools.partial(_replay, graph, step)


def _replay(graph: torch.cuda.CUDAGraph, step: Callable[[], None]) -> None:
    """Replay a graph. It owns none of the weights and batches it reads: the step keeps them."""
    graph.replay()
