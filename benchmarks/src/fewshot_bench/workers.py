"""Processes that carry out runs, one thread each, and that may die without taking anything along.

A worker is spawned, lives long (importing torch takes seconds) and is given one run at a time, so
it is always known which run a dead worker was at. Every worker writes its own results.
"""

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

from fewshot_bench.claims import claim
from fewshot_bench.config import RunConfig, resolve, run_name
from fewshot_bench.results import RunInfo, RunResult, TrainInfo, read_result, write_result
from fewshot_bench.seeds import derive

__all__ = ["GRACE_S", "Outcome", "Worker", "failed_result", "result_path"]

GRACE_S = 5.0
"""How long an idle worker may take to leave."""
PARENT_CHECK_S = 0.5
"""How often a worker looks whether the sweep that started it still lives."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    name: str
    error: str | None = None
    """Why it failed; `None` when it completed."""
    accuracy: float | None = None
    trace: str = ""
    """Where an unexpected error came from, for `--debug`."""
    fatal: bool = False
    """Whether the result could not be written: no other run would fare better."""
    elsewhere: bool = False
    """Whether another sweep of the same folder is at this run, and nothing was done here."""


class Worker:
    """The handle of one process.

    Args:
        out: The folder of the results.
    """

    def __init__(self, out: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        arguments = (theirs, out, os.getpid())
        self.process = context.Process(target=_work, args=arguments, daemon=True)
        with _no_interrupt():
            self.process.start()
        theirs.close()

    def give(self, config: RunConfig) -> None:
        """Hand over a run.

        Args:
            config: The run.
        """
        with suppress(OSError):  # it is dead: `take` will say so
            self.connection.send(config)

    def take(self) -> Outcome | None:
        """Receive how the run ended.

        Returns:
            The outcome, or `None` when the process died.
        """
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            return None

    def stop(self, grace_s: float = 0.0) -> int | None:
        """End the process.

        Args:
            grace_s: How long an idle worker may take to leave by itself, which lets the libraries
                in it give back what they hold; then, or at once, it is killed.

        Returns:
            Its exit code; negative for the number of the signal that ended it.
        """
        self.connection.close()
        self.process.join(grace_s)
        self.process.kill()  # no effect on a dead one
        self.process.join()
        return self.process.exitcode


def result_path(out: Path, config: RunConfig) -> Path:
    """Say where a run's result belongs.

    Args:
        out: The folder of the results.
        config: The run.

    Returns:
        `<out>/runs/<name>.json`.
    """
    return out / "runs" / f"{run_name(config)}.json"


def failed_result(config: RunConfig, error: str, seconds: float) -> RunResult:
    """Record a run that ended before it had a record of its own.

    Args:
        config: The run.
        error: Why, in one line.
        seconds: How long it took.

    Returns:
        A result with status `failed` and nothing measured.
    """
    from fewshot_bench.environment import describe

    config = resolve(config)
    return RunResult(
        RunInfo(
            name=run_name(config),
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            total_time_s=seconds,
            status="failed",
            error=error,
            config=config,
            seeds=derive(config.seed),
        ),
        TrainInfo(),
        describe(config.device, config.threads),
    )


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Hold Ctrl-C back: a child inherits that and leaves it to the parent, who gets it after."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(connection: Connection, out: Path, parent: int) -> None:
    """Carry out runs until the connection is closed: the main function of a worker."""
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    while True:
        try:
            config = connection.recv()
            connection.send(_carry_out(config, out))
        except (EOFError, OSError):
            return


def _watch(parent: int) -> None:
    """End the process when its parent is gone, whatever it is doing."""
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_S)
    os._exit(1)


def _carry_out(config: RunConfig, out: Path) -> Outcome:
    """Run unless somebody else does or did, and write the result whatever it is."""
    with claim(out, run_name(config)) as mine:
        if not mine:
            return Outcome(run_name(config), elsewhere=True)
        return _finished(config, out) or _run(config, out)


def _finished(config: RunConfig, out: Path) -> Outcome | None:
    """Take what another sweep measured since this one made its plan."""
    try:
        done = read_result(result_path(out, config))
    except (ValueError, OSError):
        return None
    if done.run_info.name != run_name(config) or done.run_info.status != "completed":
        return None
    return Outcome(run_name(config), accuracy=done.train_info.accuracy)


def _run(config: RunConfig, out: Path) -> Outcome:
    """Run, and write the result whatever it is."""
    name, clock, trace = run_name(config), time.perf_counter(), ""
    try:
        from fewshot_bench.pipeline import run

        result = run(config)
    except Exception as error:  # recorded; the other runs of a sweep do not depend on it
        expected = isinstance(error, (ValueError, OSError, ArithmeticError))
        reason = " ".join(str(error).split())
        reason = reason if expected else f"{type(error).__name__}: {reason}"
        trace = traceback.format_exc()
        result = failed_result(config, reason, time.perf_counter() - clock)
    try:
        write_result(result, result_path(out, config))
    except OSError as error:
        return Outcome(name, str(error), fatal=True)
    return Outcome(name, result.run_info.error, result.train_info.accuracy, trace)
