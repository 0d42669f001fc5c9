"""The whole measurement: every part that was asked for, for every model and variant."""

from collections.abc import Callable

import torch

from fewshot_bench.speed.allocator import measure_allocator
from fewshot_bench.speed.options import Options, Part, check_options
from fewshot_bench.speed.pieces import RANKS
from fewshot_bench.speed.record import SpeedResult, read_speed
from fewshot_bench.speed.release import released_file
from fewshot_bench.speed.session import Session, open_session
from fewshot_bench.speed.single_layers import (
    LAYERS,
    measure_optimizers,
    measure_piecewise,
    measure_thresholds,
    measure_transients,
    on_layers,
    with_density,
)
from fewshot_bench.speed.snell_release import snell_file
from fewshot_bench.speed.threshold import SHAPES
from fewshot_bench.speed.timing import WARMUP_ROUNDS
from fewshot_bench.speed.variants import choices
from fewshot_bench.speed.whole_steps import (
    depths_of,
    measure_depths,
    measure_memories,
    measure_times,
)
from fewshot_bench.speed.workload import make_workload

__all__ = ["count_steps", "measure"]

Say = Callable[[str], None]
PARTS: dict[Part, Callable[[Session], None]] = {
    "memory": measure_memories,
    "depth": measure_depths,
    "transient": measure_transients,
    "optimizer": measure_optimizers,
    "threshold": measure_thresholds,
    "pieces": measure_piecewise,
    "time": measure_times,
    "allocator": measure_allocator,
}


def measure(
    options: Options,
    on_step: Say = lambda text: None,
    *,
    save: Callable[[SpeedResult], None] = lambda result: None,
    done: SpeedResult | None = None,
) -> SpeedResult:
    """Measure everything that was asked for.

    Args:
        options: What.
        on_step: Called after every piece of work, `count_steps` times at most, with what it was.
        save: Called with the unfinished result after every row.
        done: An unfinished result of the same measurement, to go on from.

    Returns:
        The record; what could not be measured is named in it, with the reason.

    Raises:
        ValueError: An option makes no sense.
    """
    check_options(options)
    _check_places(options)
    session = open_session(options, on_step, save, done)
    torch.set_num_threads(1)
    for name, part in PARTS.items():
        if name in options.parts:
            part(session)
    return session.finish()


def count_steps(options: Options) -> int:
    """Count the pieces of work, for a progress bar.

    Args:
        options: What is to be measured.

    Returns:
        How often `measure` calls back if nothing is left out or done already.
    """
    chosen = choices(options.variants, options.densities)
    each = len(options.model) * len(chosen)
    depths = [len(depths_of(m, options)) for m in options.model if "depth" in options.parts]
    counts: dict[Part, int] = {
        "time": (WARMUP_ROUNDS + options.rounds) * each * len(options.batch),
        "memory": each * len(options.memory_batch),
        "depth": sum(depths) * len(chosen),
        "optimizer": len(with_density(chosen)),
        "transient": len(on_layers(chosen)) * len(LAYERS),
        "threshold": len(SHAPES),
        "pieces": len(RANKS),
        "allocator": sum(1 for file in options.predicted for _ in read_speed(file).memory),
    }
    return sum(counts[part] for part in options.parts)


def _check_places(options: Options) -> None:
    """Refuse models, depths, devices and clones that are not there, before any work is done."""
    if options.release is not None:
        released_file(options.release)
    if options.snell_release is not None:
        snell_file(options.snell_release)
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
