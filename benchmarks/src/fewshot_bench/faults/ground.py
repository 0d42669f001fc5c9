"""A small grid of real runs, what it gives undisturbed, and how a disturbed folder differs."""

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fewshot_bench.results import read_result

__all__ = ["Ground", "Tally", "prepare_ground"]

GRID = ("--methods", "linear_probe", "bias", "so", "--backbones", "tiny-vit",
        "--datasets", "digits", "--checkpoints", "random", "--shots", "2",
        "--steps", "3", "--test-limit", "60", "--jobs", "2")  # fmt: skip
VARYING = {
    "run_info": ("created_at", "total_time_s"),
    "train_info": ("step_time_s",),
    "meta_info": ("git_revision", "git_dirty"),
}
"""What a repeat of a run need not reproduce."""
PATIENCE_S = 600


@dataclass(frozen=True)
class Tally:
    """What came of one kind of fault."""

    fault: str
    injected: int
    """How often it was put in."""
    lost: int
    """Finished results that were gone, or no longer as they were, afterwards."""
    duplicated: int
    """Runs with more than one result in the end."""
    wrong: int
    """Runs whose numbers differ from those of the undisturbed sweep."""
    missing: int
    """Runs without a result in the end, after the same command was given again."""
    seconds: float

    @property
    def held(self) -> bool:
        """Whether nothing at all went wrong."""
        return not (self.lost or self.duplicated or self.wrong or self.missing)


@dataclass
class Ground:
    """Where sweeps are disturbed.

    Args:
        folder: Of temporary files.
        seeds: How many seeds the grid has; three runs each.
        reference: Name of a run to its numbers, undisturbed.
        rng: Chooses moments and victims.
    """

    folder: Path
    seeds: int
    rng: random.Random
    reference: dict[str, Any] = field(default_factory=dict)

    @property
    def command(self) -> list[str]:
        """The sweep, without its folder."""
        fewshot = str(Path(sys.executable).with_name("fewshot"))
        return [fewshot, "sweep", *GRID, "--seeds", *map(str, range(1, self.seeds + 1))]

    def place(self, name: str) -> Path:
        """Say where results of a kind of fault go."""
        return self.folder / name

    def fresh(self, name: str) -> Path:
        """Give an empty place for results."""
        place = self.place(name)
        shutil.rmtree(place, ignore_errors=True)
        return place

    def whole(self, name: str) -> Path:
        """Give a copy of the undisturbed results."""
        place = self.fresh(name)
        shutil.copytree(self.place("whole"), place)
        return place

    @contextmanager
    def started(
        self, out: Path, *more: str, before: Sequence[str] = (), plain: bool = False
    ) -> Iterator[Any]:
        """Run the sweep, or with `plain` another one, in a process group of its own."""
        command = self.command[:2] if plain else self.command
        process = subprocess.Popen(
            [*before, *command, "--out", str(out), *more],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def finish(self, out: Path, *more: str) -> int:
        """Give the same command again and wait for it."""
        with self.started(out, *more) as process:
            process.communicate(timeout=PATIENCE_S)
            return process.returncode

    def tally(self, fault: str, out: Path, injected: int, lost: int, began: float) -> Tally:
        """Compare a folder with the undisturbed one."""
        found = numbers(out)
        names = [path.stem for path in out.rglob("*.json")]
        wrong = sum(found[name] != self.reference[name] for name in found.keys() & self.reference)
        return Tally(
            fault, injected, lost,
            duplicated=len(names) - len(set(names)) + len(found.keys() - self.reference.keys()),
            wrong=wrong,
            missing=len(self.reference.keys() - found.keys()),
            seconds=round(time.perf_counter() - began, 1),
        )  # fmt: skip


def prepare_ground(folder: Path, seeds: int, seed: int) -> Ground:
    """Do the grid once without any fault.

    Args:
        folder: Of temporary files.
        seeds: Seeds of the grid.
        seed: Of the moments and victims.

    Returns:
        The ground.

    Raises:
        RuntimeError: Even that did not work.
    """
    ground = Ground(folder, seeds, random.Random(seed))
    code = ground.finish(ground.fresh("whole"))
    ground.reference = numbers(ground.place("whole"))
    if code != 0 or len(ground.reference) != 3 * seeds:
        raise RuntimeError(f"the undisturbed sweep ended with {code}: nothing can be compared")
    return ground


def numbers(out: Path) -> dict[str, Any]:
    """Read what a repeat must reproduce to the last bit, by the name of the run."""
    seen = {}
    for path in sorted((out / "runs").glob("*.json")):
        try:
            table = read_result(path).to_dict()
        except (ValueError, OSError):
            continue
        if table["run_info"]["status"] == "completed":
            for part, keys in VARYING.items():
                table[part] = {k: v for k, v in table[part].items() if k not in keys}
            seen[path.stem] = json.dumps(table, sort_keys=True)
    return seen
