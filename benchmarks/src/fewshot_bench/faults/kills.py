"""Processes that end or hang at any moment: the sweep, one of its workers, both of two sweeps."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from fewshot_bench.faults.ground import Ground, Tally

__all__ = ["hang", "kill_sweep", "kill_worker", "two_sweeps"]

UNTIL_RUNS_S = 3.0
"""Importing torch takes about that long; kills before it would all hit the same line."""
SPREAD_S = 3.0


def kill_sweep(ground: Ground, times: int) -> Tally:
    """Kill the whole sweep with SIGKILL at random moments, and give the command again each time."""
    began, lost, killed = time.perf_counter(), 0, 0
    out = ground.fresh("kill-sweep")
    while killed < times:
        before = stamps(out)
        with ground.started(out) as process:
            time.sleep(ground.rng.uniform(UNTIL_RUNS_S / 2, UNTIL_RUNS_S + SPREAD_S))
            if process.poll() is None:
                killed += 1
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        lost += vanished(before, out)
        if len(stamps(out)) == len(ground.reference):  # nothing is left to disturb
            lost += ground.tally("", out, 0, 0, began).wrong
            out = ground.fresh("kill-sweep")
    ground.finish(out)
    return ground.tally("SIGKILL of the sweep", out, killed, lost, began)


def kill_worker(ground: Ground, times: int) -> Tally:
    """Kill one worker at a random moment; the sweep itself goes on."""
    began, killed = time.perf_counter(), 0
    out = ground.fresh("kill-worker")
    with ground.started(out) as process:
        while killed < times and process.poll() is None:
            time.sleep(ground.rng.uniform(0.5, 2.0))
            victims = workers(process.pid)
            if victims and stamps(out):  # once something runs
                with suppress(ProcessLookupError):
                    os.kill(ground.rng.choice(victims), signal.SIGKILL)
                    killed += 1
        process.communicate()
    ground.finish(out, "--retry-failed")
    return ground.tally("SIGKILL of a worker", out, killed, 0, began)


def hang(ground: Ground, times: int) -> Tally:
    """Stop workers for good; the time limit of a run ends them."""
    began, stopped = time.perf_counter(), 0
    out = ground.fresh("hang")
    while stopped < times:
        with ground.started(out, "--time-limit", "8") as process:
            while process.poll() is None and stopped < times:
                time.sleep(ground.rng.uniform(0.2, 1.0))
                if (victims := workers(process.pid)) and stamps(out):
                    with suppress(ProcessLookupError):
                        os.kill(ground.rng.choice(victims), signal.SIGSTOP)
                        stopped += 1
            process.communicate(timeout=300)
        if len(stamps(out)) == len(ground.reference) and stopped < times:
            out = ground.fresh("hang")
    ground.finish(out, "--retry-failed")
    return ground.tally("a worker that hangs", out, stopped, 0, began)


def two_sweeps(ground: Ground, times: int) -> Tally:
    """Start the same command twice at once, in one folder."""
    began, failed, out = time.perf_counter(), 0, ground.place("two-sweeps")
    for _ in range(times):
        ground.fresh(out.name)
        with ground.started(out) as one, ground.started(out) as other:
            for process in (one, other):
                process.communicate(timeout=600)
                failed += process.returncode != 0
    return ground.tally("two sweeps of one folder", out, times, failed, began)


def workers(pid: int) -> list[int]:
    """List the processes that a sweep started to carry out runs."""
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [int(child) for child in listed if b"spawn_main" in command(int(child))]


def command(pid: int) -> bytes:
    """Read the command line of a process; a dead one has none."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def stamps(out: Path) -> dict[str, bytes]:
    """Read every result file as it is."""
    return {path.name: path.read_bytes() for path in (out / "runs").glob("*.json")}


def vanished(before: dict[str, bytes], out: Path) -> int:
    """Count files that are gone or changed."""
    now = stamps(out)
    return sum(now.get(name) != content for name, content in before.items())
