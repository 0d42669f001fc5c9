"""What both speed benchmarks do once the options are known: measure, save, show."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fewshot_bench.speed.machine import ENVIRONMENT, is_set
from fewshot_bench.speed.options import Options, check_options

if TYPE_CHECKING:
    from fewshot_bench.speed.record import SpeedResult

__all__ = ["run"]

WRONG_INPUT, INTERRUPTED = 2, 130


def run(options: Options, module: str, *, start_again: bool) -> int:
    """Do what was asked for.

    Args:
        options: What.
        module: The module behind the command line.
        start_again: Whether the process starts itself again if it has not the allocator and the
            threads that measurements need.

    Returns:
        The exit code: 0; 2 for wrong input, with one line on stderr; 130 after Ctrl-C.
    """
    try:
        check_options(options)
        if options.render is not None:
            return _render(options, options.render)
        if start_again and not is_set():
            command = [sys.executable, "-m", module, *sys.argv[1:]]
            os.execve(sys.executable, command, os.environ | ENVIRONMENT)
        return _measure(options)
    except KeyboardInterrupt:
        kept = f"{options.out} has what was measured so far" if options.out.exists() else "no row"
        return _say(
            module, f"interrupted: {kept}; the same command goes on from there", INTERRUPTED
        )
    except (ValueError, OSError) as error:
        return _say(module, str(error), WRONG_INPUT)


def _measure(options: Options) -> int:
    """Measure, write the result and show its tables."""
    from fewshot_bench.atomic import check_place
    from fewshot_bench.speed.measure import count_steps, measure
    from fewshot_bench.speed.record import write_speed

    check_place(options.out)

    def save(result: "SpeedResult") -> None:
        write_speed(result, options.out)

    with _bar(count_steps(options)) as on_step:
        result = measure(options, on_step, save=save, done=_begun(options))
    save(result)
    _show(options, result)
    print(f"result: {options.out}")
    return 0


def _begun(options: Options) -> "SpeedResult | None":
    """Find the beginning of the same measurement in the result file."""
    from fewshot_bench.speed.record import read_speed
    from fewshot_bench.speed.session import continues

    if not options.out.is_file():
        return None
    done = read_speed(options.out)
    return done if continues(done, options) else None


def _what_is_kept(out: Path) -> str:
    """Say what an interrupted measurement leaves behind."""
    if not out.exists():
        return "interrupted: nothing was written"
    return f"interrupted: the same command goes on from what is in {out}"


def _render(options: Options, file: Path) -> int:
    """Show the tables of a result that is there already."""
    from fewshot_bench.speed.record import read_speed

    _show(options, read_speed(file))
    return 0


def _show(options: Options, result: "SpeedResult") -> None:
    """Print the tables, and write them where that was asked for."""
    from fewshot_bench.atomic import write_bytes, write_text
    from fewshot_bench.speed.depth_picture import depth_png
    from fewshot_bench.speed.doc_page import fill_page
    from fewshot_bench.speed.table import markdown

    text = markdown(result)
    print(text)
    if options.table is not None:
        write_text(options.table, text)
    if options.page is not None:
        name = (options.render or options.out).stem
        page = options.page.read_text(encoding="utf-8")
        write_text(options.page, fill_page(page, name, text))
    if options.figure is not None:
        write_bytes(options.figure, depth_png(result.depth))


@contextmanager
def _bar(total: int) -> Iterator[Callable[[str], None]]:
    """Show what is being measured; in a log file a line for each kind of work."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    progress = Progress(*columns, TimeElapsedColumn(), console=console, transient=True)
    progress.disable = not console.is_terminal
    last = ""

    def on_step(text: str) -> None:
        nonlocal last
        progress.update(task, advance=1, description=escape(text))
        if not console.is_terminal and text != last:
            console.print(text, markup=False, highlight=False)
        last = text

    with progress:
        task = progress.add_task("building", total=total)
        yield on_step


def _say(module: str, message: str, code: int) -> int:
    """Write one line to stderr and give the exit code."""
    print(f"{module}: {' '.join(message.split())}", file=sys.stderr, flush=True)
    return code
