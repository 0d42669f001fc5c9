"""The parts of a measurement that are about whole models: time, memory, memory against depth."""

import functools
import gc
from collections.abc import Callable, Iterable
from typing import Any

import torch

from fewshot_bench.speed.compiled import measure_compiled
from fewshot_bench.speed.machine import available_bytes
from fewshot_bench.speed.options import Options
from fewshot_bench.speed.record import MemoryRow, TimeRow
from fewshot_bench.speed.session import Session
from fewshot_bench.speed.simulate import measure_memory
from fewshot_bench.speed.timing import Setting, in_turns, prepare, seconds_of, summary
from fewshot_bench.speed.variants import VARIANTS, Choice
from fewshot_bench.speed.workload import make_workload

__all__ = ["depths_of", "measure_depths", "measure_memories", "measure_times"]

POINTS = 12
"""Depths of a curve, at most one more."""


def measure_times(session: Session) -> None:
    """Time every model at every batch size, all of its variants in turns.

    Args:
        session: Takes the rows.
    """
    options = session.options
    for model in options.model:
        for batch in options.batch:
            if not session.has("time", model=model, batch=batch):
                setting = Setting(model, batch, options.depth, options.device,
                                  options.precision, options.graph)  # fmt: skip
                session.add("time", _timed(session, setting))


def measure_memories(session: Session) -> None:
    """Simulate every variant of every model at every batch size.

    Args:
        session: Takes the rows.
    """
    options = session.options
    for model in options.model:
        for batch in options.memory_batch:
            for choice in session.chosen:
                _simulated(session, "memory", model, batch, choice, options.depth)


def measure_depths(session: Session) -> None:
    """Simulate every variant of every model at several depths, at one batch size.

    Args:
        session: Takes the rows.
    """
    options = session.options
    for model in options.model:
        for depth in depths_of(model, options):
            for choice in session.chosen:
                _simulated(session, "depth", model, options.memory_batch[0], choice, depth)


def depths_of(model: str, options: Options) -> list[int]:
    """Choose the depths of a curve.

    Args:
        model: A backbone of the catalog.
        options: Say how many blocks there may be.

    Returns:
        Numbers of blocks, equally far apart, the last one included.
    """
    workload = make_workload(model, options.depth, meta=True)
    blocks = len(workload.towers[0])
    stride = -(-blocks // POINTS)
    return sorted({*range(stride, blocks + 1, stride), blocks})


def _timed(session: Session, setting: Setting) -> list[TimeRow]:
    """Time all variants of one model."""
    keep = _fits(setting, len(session.chosen))
    steps = {}
    for choice in session.chosen:
        make = functools.partial(prepare, setting, choice)
        name = f"time of {choice.label}, {setting.model}" + _more(
            setting.batch, session.options.batch
        )
        step = session.attempt(name, _stepped, make)
        if step is not None:
            steps[choice.label] = functools.partial(_give, step) if keep else make
        del step
    told = functools.partial(session.say, f"time, {setting.model}")
    clock = seconds_of(setting.device)
    seconds = in_turns(steps, session.options.rounds, clock, keep=keep, on_round=told)
    rows = []
    for choice in session.chosen:
        if choice.label in seconds:
            taken = seconds[choice.label]
            facts = setting.model, setting.depth, setting.batch, choice.variant, choice.density
            rows.append(TimeRow(*facts, summary(taken), taken))
    del steps
    gc.collect()
    return rows


def _simulated(
    session: Session, part: Any, model: str, batch: int, choice: Choice, depth: int | None
) -> None:
    """Simulate one step, unless that is done already."""
    facts: dict[str, Any] = {
        "model": model, "depth": depth, "batch": batch,
        "variant": choice.variant, "density": choice.density,
    }  # fmt: skip
    name = f"memory of {choice.label}, {model}" + _more(batch, session.options.memory_batch)
    name += f", depth {depth}" * (part == "depth")
    if not session.has(part, **facts):
        eager = VARIANTS[choice.variant].budget is None
        measured = measure_memory if eager else measure_compiled
        if VARIANTS[choice.variant].real:
            measured = functools.partial(measure_memory, real=True)
        found = session.attempt(name, measured, model, choice, batch, depth)
        if found is not None:
            row = MemoryRow(
                **facts,
                peak_bytes=found.peak_bytes,
                standing_bytes=found.standing_bytes,
                saved_bytes=found.saved.bytes,
                units=found.saved.units,
                flops=found.flops,
                operations=found.operations,
                seconds=found.seconds,
                note=found.note,
            )
            session.add(part, [row])
    session.say(name)


def _more(value: int, values: Iterable[int]) -> str:
    """Name a batch size where there are several."""
    return f", batch {value}" if len(tuple(values)) > 1 else ""


def _stepped(make: Callable[[], Callable[[], None]]) -> Callable[[], None]:
    """Build a step and do it once, to see that it can be done."""
    step = make()
    step()
    return step


def _give(step: Callable[[], None]) -> Callable[[], None]:
    """Give what is there already."""
    return step


def _fits(setting: Setting, variants: int) -> bool:
    """Tell whether all variants' models fit side by side, with room for AdamW and a step."""
    if torch.device(setting.device).type == "cuda":
        available, _ = torch.cuda.mem_get_info(setting.device)
    else:
        available = available_bytes()
    model = make_workload(setting.model, setting.depth, meta=True).model
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    return weights * (variants + 4) < available / 2
