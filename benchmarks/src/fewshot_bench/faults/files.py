"""Files that are not as they were: truncated, changed, exchanged, left behind, from the future."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from fewshot_bench.faults.ground import Ground, Tally

__all__ = ["clock_jumps", "damaged_files"]

DAY_S = 86_400


def damaged_files(ground: Ground, times: int) -> Tally:
    """Damage finished results in every way, then give the command again."""
    began, out = time.perf_counter(), ground.whole("damaged")
    files = sorted((out / "runs").glob("*.json"))
    victims = [ground.rng.choice(files) for _ in range(times)]
    for number, path in enumerate(victims):
        DAMAGES[number % len(DAMAGES)](ground, path)
    ground.finish(out)
    return ground.tally("truncated and corrupted results", out, times, 0, began)


def clock_jumps(ground: Ground, times: int) -> Tally:
    """Date results, claims and half-written files into past and future; drop results beside it."""
    began, out = time.perf_counter(), ground.whole("clock")
    files = sorted((out / "runs").glob("*.json"))
    for number in range(times):
        moment = time.time() + ground.rng.choice([-1, 1]) * ground.rng.uniform(1, 400) * DAY_S
        half = out / "runs" / f".half-{number}.json.0123456789ab.tmp"
        half.write_text("{")
        for path in (half, ground.rng.choice(files)):
            if path.exists():
                os.utime(path, (moment, moment))
        if number % 3 == 0:
            ground.rng.choice(files).unlink(missing_ok=True)
    ground.finish(out)
    return ground.tally("clock jumps", out, times, 0, began)


def _truncate(ground: Ground, path: Path) -> None:
    """Cut a file off anywhere."""
    content = path.read_bytes()
    path.write_bytes(content[: ground.rng.randrange(max(1, len(content)))])


def _flip(ground: Ground, path: Path) -> None:
    """Change one bit."""
    content = bytearray(path.read_bytes() or b"{")
    content[ground.rng.randrange(len(content))] ^= 1 << ground.rng.randrange(8)
    path.write_bytes(bytes(content))


def _digit(ground: Ground, path: Path) -> None:
    """Change a digit, so that the file is still JSON."""
    content = bytearray(path.read_bytes())
    digits = [at for at, byte in enumerate(content) if chr(byte).isdigit()]
    if digits:
        at = ground.rng.choice(digits)
        content[at] = ord(str((int(chr(content[at])) + 1) % 10))
    path.write_bytes(bytes(content))


def _exchange(ground: Ground, path: Path) -> None:
    """Put another run's result in its place."""
    others = sorted(other for other in path.parent.glob("*.json") if other != path)
    path.write_bytes(ground.rng.choice(others).read_bytes())


def _empty(ground: Ground, path: Path) -> None:
    """Leave nothing in it."""
    path.write_bytes(b"")


DAMAGES: tuple[Callable[[Ground, Path], None], ...] = (_truncate, _flip, _digit, _exchange, _empty)
