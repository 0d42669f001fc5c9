"""`python -m fewshot_bench.speed.decoding`: reading images, beside torchvision's ImageFolder."""

import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import tyro

from fewshot_bench.environment import describe
from fewshot_bench.schema import plain
from fewshot_bench.speed.image_readers import READERS, STREAMING, Reading, check_pixels
from fewshot_bench.speed.machine import ENVIRONMENT, is_set
from fewshot_bench.speed.photographs import make_photographs
from fewshot_bench.speed.record import DecodingRow, SpeedResult
from fewshot_bench.speed.timing import summary

__all__ = ["DataOptions", "main", "measure_decoding"]

MODULE = "fewshot_bench.speed.decoding"
WARMUP = 1


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Measure reading JPEG files into batches, with CoOp's transforms, all readers in turns."""

    classes: int = 12
    """Class folders."""
    each: int = 32
    """Images in each of them, in train/ and in test/."""
    width: int = 500
    """Of an image, pixels."""
    height: int = 375
    """Of an image, pixels."""
    batch: int = 32
    """Images in a batch."""
    workers: tuple[int, ...] = (0, 2)
    """Numbers of worker processes to measure with."""
    passes: int = 4
    """Passes over the images, from the first reading on; one pass over test images is measured
    too."""
    rounds: int = 5
    """Rounds that count; one comes first."""
    out: Path = Path("results/data-speed/decoding.json")
    """The result file."""
    page: Path | None = None
    """Put the tables into this page too, where it has a place for the result file's name."""
    render: Path | None = None
    """Measure nothing: show the tables of this result file."""


def measure_decoding(options: DataOptions, say: Callable[[str], None] = lambda _: None):
    """Measure every reader on the same files.

    Args:
        options: What is asked for.
        say: Called before each measurement.

    Returns:
        The result.
    """
    began, now = time.perf_counter(), datetime.now(UTC).isoformat(timespec="seconds")
    meta = describe("cpu", 1)
    rows: list[DecodingRow] = []
    with tempfile.TemporaryDirectory() as folder:
        sizes = options.classes, options.each, options.width, options.height
        root = make_photographs(Path(folder), *sizes)
        images = options.classes * options.each
        for split in ("test", "train"):
            for workers in options.workers:
                for passes in (1, options.passes) if split == "test" else (options.passes,):
                    facts = images, options.classes, options.batch, workers, passes
                    reading = Reading(root, split, *facts)
                    say(f"{split}, {workers} workers, {passes} passes")
                    check_pixels(reading)
                    rows += _in_turns(reading, options.rounds)
    recorded = {k: v for k, v in plain(options).items() if k not in ("out", "page", "render")}
    taken = time.perf_counter() - began
    return SpeedResult(now, taken, recorded, is_set(), meta, decoding=rows)


def _in_turns(reading: Reading, rounds: int) -> list[DecodingRow]:
    """Time all readers, A B C A B C, after a round that does not count."""
    # Without memory every pass over test images is like the first: one pass says it all.
    names = [
        n for n in READERS if n != STREAMING or reading.split == "train" or reading.passes == 1
    ]
    wall: dict[str, list[float]] = {name: [] for name in names}
    processor: dict[str, list[float]] = {name: [] for name in names}
    for number in range(WARMUP + rounds):
        for name in names:
            seconds = _seconds(name, reading)
            if number >= WARMUP:
                wall[name].append(seconds[0])
                processor[name].append(seconds[1])
    same = reading.workers, reading.passes, reading.images, reading.batch
    return [
        DecodingRow(
            "clip", reading.split, name, *same,
            summary(wall[name], WARMUP), summary(processor[name], WARMUP),
            wall[name], processor[name],
        )
        for name in names
    ]  # fmt: skip


def _seconds(name: str, reading: Reading) -> tuple[float, float]:
    """Read everything once; the seconds that an image takes in a pass, by both clocks."""
    begin = time.perf_counter(), _processor()
    seen = sum(len(images) for images in READERS[name](reading))
    taken = time.perf_counter() - begin[0], _processor() - begin[1]
    if seen != reading.images * reading.passes:
        raise ValueError(f"{name} gave {seen} images, not {reading.images * reading.passes}")
    return taken[0] / seen, taken[1] / seen


def _processor() -> float:
    """Processor seconds of this process and of its workers that have ended."""
    who = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    uses = [resource.getrusage(each) for each in who]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: What was typed; `None` = the process's own, and then the process starts itself
            again with the allocator and the threads that measurements need.

    Returns:
        The exit code: 0; 2 for wrong input, with one line on stderr.

    Raises:
        SystemExit: After `--help`, or on an unknown option.
    """
    from fewshot_bench.speed.record import read_speed, write_speed

    options = tyro.cli(DataOptions, prog=f"python -m {MODULE}", args=arguments)
    if arguments is None and options.render is None and not is_set():
        command = [sys.executable, "-m", MODULE, *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | ENVIRONMENT)
    try:
        if options.render is not None:
            _show(options, read_speed(options.render))
            return 0
        result = measure_decoding(options, lambda text: print(text, file=sys.stderr, flush=True))
        write_speed(result, options.out)
        _show(options, result)
        print(f"result: {options.out}")
    except (ValueError, OSError) as error:
        print(f"{MODULE}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _show(options: DataOptions, result: SpeedResult) -> None:
    """Print the tables, and put them into a page where that was asked for."""
    from fewshot_bench.atomic import write_text
    from fewshot_bench.speed.doc_page import fill_page
    from fewshot_bench.speed.table import markdown

    print(markdown(result))
    if options.page is not None:
        page = options.page.read_text(encoding="utf-8")
        name = (options.render or options.out).stem
        write_text(options.page, fill_page(page, name, markdown(result)))


if __name__ == "__main__":
    sys.exit(main())
