"""From a folder of result files to a page, figures and tables. Reads result files, nothing else."""

import logging
from pathlib import Path

from fewshot_bench.atomic import write_bytes, write_text
from fewshot_bench.collect import Collection, collect
from fewshot_bench.results import RunResult
from fewshot_bench.statistics import summarise

__all__ = ["print_against_papers", "print_tables", "write_report"]

log = logging.getLogger(__name__)


def write_report(folder: str | Path) -> Path:
    """Write a site in `report/`, one page, a PNG file per figure and `results.csv`.

    The site has plots to point at and a page per backbone, dataset and method; `report.html` holds
    everything it shows in one file that can be sent. Neither needs a server or the network. Files
    that are no results are left out and named; `print_tables` names them in the terminal.

    Args:
        folder: A folder with `runs/*.json`, as `fewshot sweep` writes them.

    Returns:
        The page in one file; the site begins at `report/index.html` beside it.

    Raises:
        FileNotFoundError: There is no such folder, or no result file in it.
        OSError: The folder cannot be written.
    """
    from fewshot_bench.against import compare
    from fewshot_bench.drawing import figure_png
    from fewshot_bench.figures import FIGURES
    from fewshot_bench.page import render
    from fewshot_bench.runs_csv import runs_csv
    from fewshot_bench.web.site import write_site

    folder, found = Path(folder), collect(folder)
    for file in found.unreadable:
        log.info("left out of the report: %s: %s", file.path, file.reason)
    blocks = summarise(found.results)
    table = runs_csv(found.results)
    if blocks:
        for kind in FIGURES.values():
            write_bytes(folder / f"{kind.name}.png", figure_png(kind, blocks))
    write_text(folder / "results.csv", table)
    write_site(folder / "report", folder, found, blocks, paper=compare(found.results))
    return write_text(folder / "report.html", render(folder, found, blocks, table))


def print_tables(folder: str | Path) -> None:
    """Print a table per backbone and dataset, then what failed and what could not be read.

    Args:
        folder: A folder with `runs/*.json`, as `fewshot sweep` writes them.

    Raises:
        FileNotFoundError: There is no such folder, or no result file in it.
    """
    from rich.console import Console
    from rich.text import Text

    from fewshot_bench.tables import EXPLANATION, block_table

    found, console = collect(folder), Console(highlight=False)
    if not console.is_terminal:
        console.width = 100  # in a file or a log nobody's window is too narrow
    for block in summarise(found.results):
        console.print(block_table(block))
        console.print()
    if found.results:
        console.print(Text(EXPLANATION, style="dim"))
    for line in _complaints(found):
        console.print(Text(line, style="yellow"), soft_wrap=True)


def print_against_papers(folder: str | Path) -> None:
    """Print each published number that a preset carries beside ours.

    Args:
        folder: A folder with `runs/*.json`, as `fewshot sweep` writes them.

    Raises:
        FileNotFoundError: There is no such folder, or no result file in it.
    """
    from rich.console import Console
    from rich.text import Text

    from fewshot_bench.against import compare
    from fewshot_bench.tables import against_table

    lines, console = compare(collect(folder).results), Console(highlight=False)
    if not console.is_terminal:
        console.width = 160
    console.print(Text("Against the papers (%)", style="bold cyan"))
    none = Text("no run here is one that a preset has a published number for")
    console.print(against_table(lines) if lines else none)


def _complaints(found: Collection) -> list[str]:
    """List the failed runs and the files that were left out, a line each."""
    failed = [f"failed: {run.run_info.name}: {_why(run)}" for run in found.failed]
    return failed + [f"left out: {file.path}: {file.reason}" for file in found.unreadable]


def _why(run: RunResult) -> str:
    """Say why a run failed."""
    return run.run_info.error or "no reason recorded"
