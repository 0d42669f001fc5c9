"""The whole measurement: every part that was asked for, for every model and variant."""

import dataclasses
import functools
import gc
import hashlib
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from fewshot_bench.environment import describe
from fewshot_bench.schema import plain
from fewshot_bench.speed.compiled import measure_compiled
from fewshot_bench.speed.layers import VIT_B
from fewshot_bench.speed.machine import available_bytes, is_set
from fewshot_bench.speed.optimizer_alone import measure_optimizer
from fewshot_bench.speed.options import Options, check_options
from fewshot_bench.speed.record import MemoryRow, OptimizerRow, SpeedResult, TimeRow
from fewshot_bench.speed.release import released_file
from fewshot_bench.speed.simulate import measure_memory
from fewshot_bench.speed.timing import (
    WARMUP_ROUNDS,
    Setting,
    in_turns,
    prepare,
    seconds_of,
    summary,
)
from fewshot_bench.speed.variants import VARIANTS, Choice, choices
from fewshot_bench.speed.workload import make_workload

__all__ = ["count_steps", "measure"]

Say = Callable[[str], None]


def measure(options: Options, on_step: Say = lambda text: None) -> SpeedResult:
    """Measure everything that was asked for.

    Args:
        options: What.
        on_step: Called after every piece of work, `count_steps` times at most, with what it was.

    Returns:
        The record; what could not be measured is named in it, with the reason.

    Raises:
        ValueError: An option makes no sense.
    """
    check_options(options)
    chosen = choices(options.variants, options.densities, options.release)
    _check_models(options)
    torch.set_num_threads(1)
    clock, created = time.perf_counter(), datetime.now(UTC).isoformat(timespec="seconds")
    left_out: dict[str, str] = {}
    parts: dict[str, Any] = {
        "memory": functools.partial(_memory, options, chosen, left_out, on_step),
        "optimizer": functools.partial(_optimizer, options, chosen, left_out, on_step),
        "time": functools.partial(_time, options, chosen, left_out, on_step),
    }
    found = {name: part() for name, part in parts.items() if name in options.parts}
    return SpeedResult(
        created_at=created,
        total_time_s=time.perf_counter() - clock,
        options=_recorded(options),
        allocator_set=is_set(),
        meta_info=describe(options.device, 1),
        left_out=left_out,
        **found,
    )


def count_steps(options: Options) -> int:
    """Count the pieces of work, for a progress bar.

    Args:
        options: What is to be measured.

    Returns:
        How often `measure` calls back if nothing is left out.
    """
    chosen = choices(options.variants, options.densities)
    each = {"time": WARMUP_ROUNDS + options.rounds, "memory": 1}
    steps = sum(each.get(part, 0) for part in options.parts) * len(options.model) * len(chosen)
    return steps + ("optimizer" in options.parts) * len(_with_density(chosen))


def _check_models(options: Options) -> None:
    """Refuse models, depths, devices and clones that are not there, before any work is done."""
    if options.release is not None:
        released_file(options.release)
    _check_device(options.device)
    for model in options.model:
        make_workload(model, options.depth, meta=True)


def _check_device(device: str) -> None:
    """Refuse a device that does not exist."""
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise ValueError(f"--device {device}: no such device; pass e.g. cpu or cuda") from None
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"--device {device}: only cpu and cuda are measured")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device {device}: there is no GPU that torch can use")


def _time(options: Options, chosen: list[Choice], left_out: dict[str, str], say: Say) -> list:
    """Time every model, all of its variants in turns."""
    rows = []
    for model in options.model:
        setting = Setting(model, options.batch, options.depth, options.device,
                          options.precision, options.graph)  # fmt: skip
        keep = _fits(setting, len(chosen))
        steps = {}
        for choice in chosen:
            make = functools.partial(prepare, setting, choice)
            step = _attempt(f"time of {choice.label}, {model}", left_out, _stepped, make)
            if step is not None:
                steps[choice.label] = functools.partial(_give, step) if keep else make
            del step
        told = functools.partial(say, f"time, {model}")
        clock = seconds_of(options.device)
        seconds = in_turns(steps, options.rounds, clock, keep=keep, on_round=told)
        for choice in chosen:
            if choice.label in seconds:
                taken = seconds[choice.label]
                facts = model, options.depth, options.batch, choice.variant, choice.density
                rows.append(TimeRow(*facts, summary(taken), taken))
        del steps
        gc.collect()
    return rows


def _memory(options: Options, chosen: list[Choice], left_out: dict[str, str], say: Say) -> list:
    """Simulate every variant of every model."""
    rows = []
    for model in options.model:
        for choice in chosen:
            arguments = model, choice, options.memory_batch, options.depth
            name = f"memory of {choice.label}, {model}"
            eager = VARIANTS[choice.variant].budget is None
            measured = measure_memory if eager else measure_compiled
            found = _attempt(name, left_out, measured, *arguments)
            say(name)
            if found is not None:
                rows.append(
                    MemoryRow(
                        *(model, options.depth, options.memory_batch),
                        *(choice.variant, choice.density),
                        *(found.peak_bytes, found.standing_bytes, found.saved.bytes),
                        *(found.saved.units, found.flops, found.operations),
                        *(found.seconds, found.note),
                    )
                )
    return rows


def _optimizer(options: Options, chosen: list[Choice], left_out: dict[str, str], say: Say) -> list:
    """Measure the optimizers without a model."""
    rows = []
    for choice in _with_density(chosen):
        name = f"optimizer of {choice.label}"
        found = _attempt(name, left_out, measure_optimizer, choice, VIT_B, options.device)
        say(name)
        if found is not None:
            facts = choice.variant, choice.density, len(VIT_B), found.entries
            costs = found.step, found.redraw, found.operations, found.waits, found.bytes_per_entry
            rows.append(OptimizerRow(*facts, *costs))
        gc.collect()
    return rows


def _with_density(chosen: list[Choice]) -> list[Choice]:
    """Pick one variant per optimizer: the memory levels share theirs."""
    same = ("so-low", "so-minimal")
    return [c for c in chosen if VARIANTS[c.variant].has_density and c.variant not in same]


def _attempt(name: str, left_out: dict[str, str], call: Callable[..., Any], *arguments: Any) -> Any:
    """Do a part; one that fails is named in the record and leaves the others alone."""
    try:
        return call(*arguments)
    except Exception as error:
        expected = isinstance(error, (NotImplementedError, ValueError))
        reason = " ".join(str(error).split())[:300]
        left_out[name] = reason if expected else f"{type(error).__name__}: {reason}"
        return None


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


def _recorded(options: Options) -> dict[str, Any]:
    """Write the options down, without places of this machine."""
    table = plain(dataclasses.replace(options, out=Path(), table=None, render=None))
    for name in ("out", "table", "render"):
        del table[name]
    if options.release is not None:
        content = released_file(options.release).read_bytes()
        table["release"] = f"{options.release.name}, sha256 {hashlib.sha256(content).hexdigest()}"
    return table
