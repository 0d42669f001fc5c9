"""Many runs: skip what is done, do the rest in parallel, lose nothing whatever happens.

The result files are the only state. A sweep that was interrupted, by Ctrl-C, `kill -9` or a power
cut, continues when the same command is given again; two sweeps that write to one folder share the
work (`fewshot_bench.claims`).
"""

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path

from fewshot_bench.atomic import write_text
from fewshot_bench.config import RunConfig, run_name
from fewshot_bench.possible import why_not
from fewshot_bench.results import read_result, write_result
from fewshot_bench.workers import GRACE_S, Outcome, Worker, failed_result, result_path

__all__ = ["Plan", "cores", "cost", "plan", "prepare_folder", "state", "sweep"]

ATTEMPTS = 2
"""How often a run is tried whose worker dies."""
LOOK_AGAIN_S = 1.0
"""How often a run that another sweep is at is looked at again, once nothing else is left."""
STALE_S = 10
"""Age at which a temporary file belongs to nobody: writing one takes milliseconds."""
COSTS = {
    "zero_shot": 0.0,
    "linear_probe": 0.2,
    "bias": 0.8,
    "lora": 1.2,
    "so": 1.4,
    "klora": 3,
    "snell": 4,
}
"""Time of a step beside that of `full`, roughly: the longest runs start first."""
EVALUATION_COST = 300
"""Time outside the loop, beside that of one example in a step of `full`."""


@dataclass(frozen=True)
class Plan:
    """What a sweep is going to do."""

    pending: list[RunConfig]
    """Longest first."""
    done: int
    """Runs that have a result already."""
    failed: int
    """Runs that failed earlier; they are pending too if they are to be done again."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Reason to number of combinations that make no sense."""


def plan(configs: Iterable[RunConfig], out: Path, *, retry_failed: bool = False) -> Plan:
    """Find out what there is to do.

    Args:
        configs: The runs of the grid.
        out: The folder of the results.
        retry_failed: Do runs again whose result says that they failed.

    Returns:
        The runs without a result, those that cannot apply left out.

    Raises:
        ValueError: A method, backbone, dataset or device is unknown.
        FileNotFoundError: A dataset or a checkpoint is not where it was looked for.
    """
    pending, left_out, done = [], Counter(), Counter()
    reasons: dict[tuple[str | None, ...], str | None] = {}
    for config in configs:
        key = (config.method, config.backbone, config.dataset, config.checkpoint)
        if key not in reasons:
            reasons[key] = why_not(config)
        if reason := reasons[key]:
            left_out[reason] += 1
            continue
        status = state(config, out)
        done[status] += status is not None
        if status is None or (status == "failed" and retry_failed):
            pending.append(config)
    return Plan(sorted(pending, key=_order), done["completed"], done["failed"], left_out)


def prepare_folder(out: Path) -> None:
    """Make sure that results can be written, and clear away what dead runs left behind.

    Args:
        out: The folder of the results.

    Raises:
        OSError: It cannot be written.
    """
    probe = out / "runs" / ".writable"
    write_text(probe, "")
    probe.unlink()
    for path in probe.parent.glob(".*.tmp"):
        if time.time() - path.stat().st_mtime > STALE_S:
            path.unlink(missing_ok=True)


def sweep(
    pending: Iterable[RunConfig],
    out: Path,
    *,
    jobs: int,
    on_done: Callable[[RunConfig, Outcome], None],
    time_limit: float | None = None,
) -> list[Outcome]:
    """Carry out runs in parallel processes.

    Args:
        pending: The runs, in the order in which they start.
        out: The folder of the results: each run writes `<out>/runs/<name>.json`.
        jobs: How many processes.
        on_done: Called after each run.
        time_limit: Seconds that a run may take; one that takes longer is ended and recorded as
            failed. `None` waits for ever.

    Returns:
        The outcomes, in the order in which the runs ended.

    Raises:
        OSError: Results cannot be written any more; the finished ones stay.
    """
    queue = deque((config, 1) for config in pending)
    workers = [_Station(out, time_limit) for _ in range(min(jobs, len(queue)))]
    outcomes: list[Outcome] = []
    elsewhere: deque[tuple[RunConfig, int]] = deque()
    try:
        while queue or elsewhere or any(station.busy for station in workers):
            if not queue and not any(station.busy for station in workers):
                time.sleep(LOOK_AGAIN_S)
                queue, elsewhere = elsewhere, queue
            for station in workers:
                if not station.busy and queue:
                    station.start(*queue.popleft())
            for station in _ready(workers):
                config, attempt = station.config, station.attempt
                outcome = station.finish(last=attempt >= ATTEMPTS)
                if outcome is None:
                    queue.appendleft((config, attempt + 1))
                    continue
                if outcome.elsewhere:
                    elsewhere.append((config, attempt))
                    continue
                if outcome.fatal:
                    raise OSError(outcome.error)
                outcomes.append(outcome)
                on_done(config, outcome)
    finally:
        for station in workers:
            station.close()
    return outcomes


class _Station:
    """A place for one worker, who is replaced when he dies."""

    def __init__(self, out: Path, time_limit: float | None) -> None:
        self.out, self.time_limit = out, time_limit
        self.worker: Worker | None = None
        self.config, self.attempt, self.busy, self.clock = RunConfig(), 0, False, 0.0

    def start(self, config: RunConfig, attempt: int) -> None:
        """Begin a run."""
        self.config, self.attempt, self.busy = config, attempt, True
        self.clock = time.perf_counter()
        self.worker = self.worker or Worker(self.out)
        self.worker.give(config)

    @property
    def left(self) -> float | None:
        """Seconds until the run has taken too long; `None` where it may take any time."""
        if self.time_limit is None:
            return None
        return max(0.0, self.clock + self.time_limit - time.perf_counter())

    def finish(self, *, last: bool) -> Outcome | None:
        """End a run; `None` when the worker died and the run deserves another attempt."""
        assert self.worker is not None
        self.busy = False
        if self.left == 0.0 and not self.worker.connection.poll():
            self.worker.stop()
            self.worker = None
            return self._record(
                f"the run took longer than its limit of {self.time_limit:g} s and was ended; "
                "--time-limit sets the limit, --retry-failed tries again"
            )
        outcome = self.worker.take()
        if outcome is not None:
            return outcome
        code, self.worker = self.worker.stop(), None
        if state(self.config, self.out) == "completed":  # it died after writing, before saying so
            return Outcome(run_name(self.config))
        if not last:
            return None
        return self._record(
            f"the process died {ATTEMPTS} times (exit code {code}): probably not enough memory; "
            "try --jobs 1 or a smaller --batch-size"
        )

    def _record(self, error: str) -> Outcome:
        """Record a run that could not record itself."""
        seconds = time.perf_counter() - self.clock
        write_result(failed_result(self.config, error, seconds), result_path(self.out, self.config))
        return Outcome(run_name(self.config), error)

    def close(self) -> None:
        """End the worker; one that is still at a run is not waited for."""
        if self.worker is not None:
            self.worker.stop(0.0 if self.busy else GRACE_S)


def _ready(workers: list[_Station]) -> list[_Station]:
    """Wait until at least one run ended or took too long, or one busy worker died."""
    busy = {s.worker.connection: s for s in workers if s.busy and s.worker is not None}
    limits = [left for s in busy.values() if (left := s.left) is not None]
    ready = wait(list(busy), min(limits, default=None))
    return [s for connection, s in busy.items() if connection in ready or s.left == 0.0]


def state(config: RunConfig, out: Path) -> str | None:
    """Look a run up in the folder of the results.

    Args:
        config: The run.
        out: The folder.

    Returns:
        `completed`, `failed`, or `None` when there is no valid result of exactly this run.
    """
    try:
        info = read_result(result_path(out, config)).run_info
    except (ValueError, OSError):
        return None
    return info.status if info.name == run_name(config) else None


def _order(config: RunConfig) -> tuple[float, str, str, int, int]:
    """Sort long runs first, and those that see the same data side by side."""
    return -cost(config), config.backbone, config.dataset, config.seed, config.shots


def cost(config: RunConfig) -> float:
    """Estimate how long a run takes, beside others.

    Args:
        config: The run.

    Returns:
        A number without a unit; twice as much takes about twice as long.
    """
    examples = COSTS.get(config.method, 1.0) * config.steps * config.batch_size
    return examples + EVALUATION_COST


def cores() -> int:
    """Count the processor cores that this process may use.

    Returns:
        At least 1.
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
