"""All kinds of faults one after the other, the record of them, and the table for the docs."""

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fewshot_bench.atomic import write_text
from fewshot_bench.environment import describe
from fewshot_bench.faults.files import clock_jumps, damaged_files
from fewshot_bench.faults.ground import Ground, Tally, prepare_ground
from fewshot_bench.faults.kills import hang, kill_sweep, kill_worker, two_sweeps
from fewshot_bench.faults.places import full_disk, out_of_memory, read_only
from fewshot_bench.results import MetaInfo
from fewshot_bench.schema import plain, read
from fewshot_bench.speed.cells import markdown_table

__all__ = ["FAULTS", "FaultRecord", "read_faults", "run_faults", "table", "write_faults"]

Inject = Callable[[Ground, int], Tally]
FAULTS: dict[str, tuple[Inject, int]] = {
    "kill-sweep": (kill_sweep, 50),
    "kill-worker": (kill_worker, 20),
    "damaged-files": (damaged_files, 50),
    "full-disk": (full_disk, 2),
    "read-only": (read_only, 2),
    "two-sweeps": (two_sweeps, 3),
    "clock-jumps": (clock_jumps, 50),
    "hang": (hang, 4),
    "out-of-memory": (out_of_memory, 1),
}
"""Name of a fault to what injects it, and how often."""


@dataclass(frozen=True)
class FaultRecord:
    """What one session injected and found."""

    created_at: str
    total_time_s: float
    runs: int
    """Of the grid that was disturbed."""
    seed: int
    """Of the moments and victims."""
    tallies: list[Tally]
    meta_info: MetaInfo

    @property
    def held(self) -> bool:
        """Whether nothing was lost, done twice or wrong."""
        return all(tally.held for tally in self.tallies)


def run_faults(
    counts: dict[str, int], *, seeds: int, seed: int, say: Callable[[str], None]
) -> FaultRecord:
    """Inject faults and count what came of them.

    Args:
        counts: Name of a fault to how often it is injected.
        seeds: Seeds of the disturbed grid, three runs each.
        seed: Of the moments and victims.
        say: Called before every kind of fault, and with what came of it.

    Returns:
        The record.

    Raises:
        ValueError: There is no such fault.
        RuntimeError: The undisturbed sweep failed.
    """
    unknown = counts.keys() - FAULTS.keys()
    if unknown:
        raise ValueError(f"unknown faults {sorted(unknown)}: known: {', '.join(FAULTS)}")
    began, tallies = time.perf_counter(), []
    with tempfile.TemporaryDirectory(prefix="fewshot-faults-") as folder:
        say("the undisturbed sweep")
        ground = prepare_ground(Path(folder), seeds, seed)
        for name, times in counts.items():
            say(f"{name}, {times} times")
            tallies.append(FAULTS[name][0](ground, times))
            say(f"{name}: {'held' if tallies[-1].held else tallies[-1]}")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    seconds = round(time.perf_counter() - began, 1)
    return FaultRecord(now, seconds, 3 * seeds, seed, tallies, describe("cpu", 1))


def write_faults(record: FaultRecord, path: Path) -> Path:
    """Write a record as JSON, whole or not at all."""
    return write_text(path, json.dumps(plain(record), indent=1, allow_nan=False) + "\n")


def read_faults(path: Path) -> FaultRecord:
    """Read what `write_faults` wrote, strictly."""
    return read(FaultRecord, json.loads(path.read_text(encoding="utf-8")), str(path))


def table(record: FaultRecord) -> str:
    """Lay a record out as Markdown.

    Args:
        record: What was injected and found.

    Returns:
        A sentence on the circumstances and one row per kind of fault.
    """
    rows = [
        (t.fault, *map(str, (t.injected, t.lost, t.duplicated, t.wrong, t.missing)))
        for t in record.tallies
    ]
    injected = sum(t.injected for t in record.tallies)
    head = f"{injected} faults injected into a sweep of {record.runs} runs"
    columns = ("fault", "injected", "results lost", "done twice", "wrong", "missing in the end")
    meta = record.meta_info
    revision = (meta.git_revision or "unknown revision")[:12]
    return markdown_table(head, columns, rows) + f"\n\n{meta.device}; {revision}."
