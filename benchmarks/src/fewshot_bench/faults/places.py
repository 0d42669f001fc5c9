"""Places that cannot be written to, and a process that may not have the memory it asks for."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fewshot_bench.faults.ground import Ground, Tally
from fewshot_bench.faults.kills import stamps, vanished
from fewshot_bench.results import read_result

__all__ = ["full_disk", "out_of_memory", "read_only"]

SMALL, LARGE = "48k", "64m"
ROOM_BYTES = 900 << 20
PRESET = """
title = "One run that needs more memory than there is, among others"
[defaults]
dataset = "digits"
checkpoint = "random"
steps = 3
shots = 2
test_limit = 60
[[grid]]
methods = ["linear_probe", "bias", "so"]
backbones = ["tiny-vit"]
seeds = {seeds}
[[grid]]
methods = ["full"]
backbones = ["vit-b-16"]
seeds = [1]
"""


def full_disk(ground: Ground, times: int) -> Tally:
    """Let the disk run full in the middle, make room, and give the command again."""
    began, lost, found = time.perf_counter(), 0, []
    for number in range(times):
        with tmpfs(ground.fresh(f"full-disk-{number}"), SMALL) as out:
            code = ground.finish(out)
            lost += code != 2  # it must have noticed
            before = stamps(out)
            mount("-o", f"remount,size={LARGE}", str(out))
            ground.finish(out)
            lost += vanished(before, out)
            found.append(ground.tally("full disk", out, times, lost, began))
    return found[-1]  # the last one has what was lost in all


def read_only(ground: Ground, times: int) -> Tally:
    """Make the place read-only while runs are going on, and writable again afterwards."""
    began, lost, out = time.perf_counter(), 0, ground.place("read-only")
    for _ in range(times):
        ground.fresh(out.name)
        with ground.started(out) as process:
            while not stamps(out) and process.poll() is None:
                time.sleep(0.02)
            # Not remounted, which open files forbid, but covered by a place that is read-only.
            mount("-t", "tmpfs", "-o", "ro", "fewshot-faults", str(out / "runs"))
            process.communicate(timeout=120)
            lost += process.returncode != 2
        subprocess.run(["umount", "-l", str(out / "runs")], check=True)
        before = stamps(out)
        lost += not before
        ground.finish(out)
        lost += vanished(before, out)
    return ground.tally("read-only folder", out, times, lost, began)


def out_of_memory(ground: Ground, times: int) -> Tally:
    """Give every process too little memory for one run of the grid, and enough for the others."""
    began, lost = time.perf_counter(), 0
    preset = ground.folder / "hungry.toml"
    preset.write_text(PRESET.format(seeds=list(range(1, ground.seeds + 1))))
    limit = ["prlimit", f"--data={ROOM_BYTES}"]
    out = ground.place("memory")
    for _ in range(times):
        ground.fresh(out.name)
        with ground.started(out, "--preset", str(preset), before=limit, plain=True) as process:
            process.communicate(timeout=600)
        (path,) = (out / "runs").glob("full--vit-b-16*.json")
        lost += process.returncode != 0 or read_result(path).run_info.status != "failed"
        path.unlink()
    return ground.tally("out of memory in one run", out, times, lost, began)


@contextmanager
def tmpfs(place: Path, size: str) -> Iterator[Path]:
    """Mount a small file system in memory; needs the right to mount."""
    place.mkdir(parents=True)
    mount("-t", "tmpfs", "-o", f"size={size}", "fewshot-faults", str(place))
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def mount(*arguments: str) -> None:
    """Call mount."""
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise PermissionError(f"mount {' '.join(arguments)}: {done.stderr.strip()} ({os.getuid()})")
