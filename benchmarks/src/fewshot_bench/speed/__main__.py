"""`python -m fewshot_bench.speed [--model NAME ...] [--depth N] [--out FILE]`."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fewshot_bench.speed.machine import ENVIRONMENT, is_set
from fewshot_bench.speed.options import Options, check_options

if TYPE_CHECKING:
    from fewshot_bench.speed.record import SpeedResult

__all__ = ["main"]

WRONG_INPUT, INTERRUPTED = 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: What was typed; `None` = the process's own, and then the process starts itself
            again with the allocator and the threads that measurements need.

    Returns:
        The exit code: 0; 2 for wrong input, with one line on stderr; 130 after Ctrl-C.

    Raises:
        SystemExit: After `--help`, or on an unknown option.
    """
    options = tyro.cli(Options, prog="python -m fewshot_bench.speed", args=arguments)
    try:
        check_options(options)
        if options.render is not None:
            return _render(options, options.render)
        if arguments is None and not is_set():
            command = [sys.executable, "-m", "fewshot_bench.speed", *sys.argv[1:]]
            os.execve(sys.executable, command, os.environ | ENVIRONMENT)
        return _measure(options)
    except KeyboardInterrupt:
        return _say("interrupted: nothing was written", INTERRUPTED)
    except (ValueError, OSError) as error:
        return _say(str(error), WRONG_INPUT)


def _measure(options: Options) -> int:
    """Measure, write the result and show its tables."""
    from fewshot_bench.atomic import check_place
    from fewshot_bench.speed.measure import count_steps, measure
    from fewshot_bench.speed.record import write_speed

    check_place(options.out)
    with _bar(count_steps(options)) as on_step:
        result = measure(options, on_step)
    write_speed(result, options.out)
    _show(options, result)
    print(f"result: {options.out}")
    return 0


def _render(options: Options, file: Path) -> int:
    """Show the tables of a result that is there already."""
    from fewshot_bench.speed.record import read_speed

    _show(options, read_speed(file))
    return 0


def _show(options: Options, result: "SpeedResult") -> None:
    """Print the tables, and write them where that was asked for."""
    from fewshot_bench.atomic import write_text
    from fewshot_bench.speed.table import markdown

    text = markdown(result)
    print(text)
    if options.table is not None:
        write_text(options.table, text)


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


def _say(message: str, code: int) -> int:
    """Write one line to stderr and give the exit code."""
    print(f"fewshot_bench.speed: {' '.join(message.split())}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
