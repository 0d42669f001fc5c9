"""What the commands do, once their options are known."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from fewshot_bench.bars import run_bar, sweep_bar
from fewshot_bench.config import RunConfig

if TYPE_CHECKING:
    from fewshot_bench.cli import Sweep
    from fewshot_bench.sweep import Plan
    from fewshot_bench.workers import Outcome

__all__ = ["evaluate", "report", "run", "show_lists", "sweep"]

FAILURES_SHOWN = 10


def run(config: RunConfig, out: Path, save: Path | None) -> int:
    """Do one run and show what it measured.

    Args:
        config: The run.
        out: The folder of the results.
        save: Folder for the adapted model.

    Returns:
        0.

    Raises:
        ArithmeticError: The run failed; its record is written.
        ValueError: The configuration is impossible.
        OSError: Something cannot be read or written.
    """
    from fewshot_bench import pipeline
    from fewshot_bench.results import write_result
    from fewshot_bench.sweep import prepare_folder
    from fewshot_bench.tables import run_table
    from fewshot_bench.workers import result_path

    prepare_folder(out)
    with run_bar(Console(stderr=True), config) as on_step:
        try:
            result = pipeline.run(config, on_step=on_step, save=save)
        except pipeline.SaveFailed as failure:
            path = write_result(failure.result, result_path(out, config))
            raise OSError(f"{failure} (the run itself is recorded in {path})") from failure
    path = write_result(result, result_path(out, config))
    if result.run_info.error is not None:
        raise ArithmeticError(f"{result.run_info.error} (the run is recorded as failed in {path})")
    console = Console()
    console.print(run_table(result))
    console.print(Text(f"result: {path}"), soft_wrap=True)
    if save is not None:
        console.print(Text(f"model: {save} (fewshot evaluate {save})"), soft_wrap=True)
    return 0


def sweep(options: "Sweep", given: dict[str, Any]) -> int:
    """Do a grid of runs.

    Args:
        options: As typed.
        given: Fields that every run gets.

    Returns:
        0, whether or not some of the runs failed.

    Raises:
        ValueError: Something in the grid does not exist.
        OSError: Results cannot be written.
    """
    from fewshot_bench.grid import expand, load_preset
    from fewshot_bench.sweep import cores, plan, prepare_folder
    from fewshot_bench.sweep import sweep as sweep_all

    if options.jobs is not None and options.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {options.jobs}")
    if options.time_limit is not None and not options.time_limit > 0:
        raise ValueError(f"--time-limit must be above 0 seconds, got {options.time_limit}")
    preset = load_preset(options.preset) if options.preset else None
    configs = expand(preset, _axes(options), given)
    prepare_folder(options.out)
    todo = plan(configs, options.out, retry_failed=options.retry_failed)
    console, jobs = Console(), options.jobs or cores()
    _announce(console, todo, jobs, options.retry_failed)
    with sweep_bar(Console(stderr=True), todo.pending) as on_done:
        limit = options.time_limit
        outcomes = sweep_all(
            todo.pending, options.out, jobs=jobs, on_done=on_done, time_limit=limit
        )
    _list_failures(console, outcomes, options.debug)
    console.print(Text(f"results: {options.out / 'runs'}"), soft_wrap=True)
    if options.report:
        report(options.out)
        _say_next(console)
    return 0


def evaluate(folder: Path, dataset: str | None, device: str | None, root: str | None = None) -> int:
    """Evaluate a saved model.

    Args:
        folder: What `fewshot run --save` wrote.
        dataset: Other data with the same classes.
        device: Another device.
        root: Folder of the datasets on disk.

    Returns:
        0.
    """
    from fewshot_bench.adapters import evaluate_saved

    scores = evaluate_saved(folder, dataset, device, root)
    share = f"{100 * scores.accuracy:.1f} % ({scores.correct} of {scores.count})"
    Console().print(f"accuracy  {share}", highlight=False)
    return 0


def report(folder: Path, *, against_paper: bool = False) -> int:
    """Write the report of a folder and show its tables.

    Args:
        folder: The folder of the results.
        against_paper: Show what was published beside ours, too.

    Returns:
        0.
    """
    from fewshot_bench.report import print_against_papers, print_tables, write_report

    page = write_report(folder)
    print_tables(folder)
    if against_paper:
        print_against_papers(folder)
    Console().print(Text(f"report: {page}"), soft_wrap=True)
    Console().print(Text(f"site: {page.parent / 'report' / 'index.html'}"), soft_wrap=True)
    return 0


def show_lists(what: str) -> int:
    """Show what there is to choose from, or one backbone.

    Args:
        what: A key of `LISTS`, `all`, the name of a backbone, or a folder with one in it.

    Returns:
        0.

    Raises:
        ValueError: Nothing has this name.
    """
    from fewshot_bench.backbone_card import backbone_card

    if what not in ("all", *LISTS):
        for fact, value in backbone_card(what, ("all", *LISTS)):
            Console().print(Text(f"{fact:<16} {value}"), soft_wrap=True)
    for name, rows in LISTS.items():
        if what in ("all", name):
            Console().print(_table(name, rows()))
    return 0


def _axes(options: "Sweep") -> dict[str, list[Any]]:
    """Collect the axes that were given."""
    words = {"pretrained": None}
    axes = {
        "method": options.methods,
        "backbone": options.backbones,
        "dataset": options.datasets,
        "shots": options.shots,
        "seed": options.seeds,
        "checkpoint": [words.get(c, c) for c in options.checkpoints],
    }
    return {name: list(values) for name, values in axes.items() if values}


def _announce(console: Console, todo: "Plan", jobs: int, retry: bool) -> None:
    """Say what is going to be done, and what is not."""
    for reason, count in todo.left_out.items():
        console.print(Text(f"left out {_runs(count)}: {reason}"), soft_wrap=True)
    line = f"{_runs(len(todo.pending))} to do, {jobs} at a time; {todo.done} done already"
    if todo.failed and not retry:
        line += f", {todo.failed} failed earlier (--retry-failed does them again)"
    console.print(line, highlight=False, soft_wrap=True)


def _list_failures(console: Console, outcomes: "list[Outcome]", debug: bool) -> None:
    """Name the runs that failed."""
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    for outcome in failed[:FAILURES_SHOWN]:
        console.print(Text(f"failed: {outcome.name}: {outcome.error}"), soft_wrap=True)
        if debug and outcome.trace:
            console.print(Text(outcome.trace))
    if failed:
        more = len(failed) - FAILURES_SHOWN
        line = f"... and {more} more. " if more > 0 else ""
        line += f"{_runs(len(failed))} failed; --retry-failed does them again"
        console.print(line, highlight=False, soft_wrap=True)


def _runs(count: int) -> str:
    """Write a number of runs."""
    return f"{count} run" + "s" * (count != 1)


def _say_next(console: Console) -> None:
    """Say what to try after the quickstart."""
    console.print("\nNext, your own images, in one folder per class:", highlight=False)
    line = f"{_own_name()} run --backbone tiny-vit --method so --dataset path/to/folder --shots 4"
    console.print(f"  {line} --save adapted/", style="bold", highlight=False, soft_wrap=True)


def _own_name() -> str:
    """Say how to call this command again: nox keeps it in a folder that is on nobody's path."""
    called, here = Path(sys.argv[0]).absolute(), Path.cwd()
    return str(called.relative_to(here)) if called.is_relative_to(here) else "fewshot"


def _table(name: str, rows: list[tuple[str, ...]]) -> Table:
    """Lay a list out; the first row is the header."""
    table = Table(title=name, title_justify="left", title_style="bold cyan", box=None)
    for column in rows[0]:
        table.add_column(column, no_wrap=column == "name")
    for row in rows[1:]:
        table.add_row(*map(escape, row))
    return table


def _methods() -> list[tuple[str, ...]]:
    """List the methods."""
    from fewshot_bench.methods import METHODS

    rows = [(m.name, m.description, m.needs[0] if m.needs else "any") for m in METHODS.values()]
    return [("name", "trains", "backbones"), *rows]


def _backbones() -> list[tuple[str, ...]]:
    """List the backbones."""
    from fewshot_bench.backbone_card import input_of, operations
    from fewshot_bench.text import count
    from vision_backbones import list_backbones

    rows = [
        (s.name, s.title, count(s.parameters), operations(s), input_of(s), s.weights)
        for s in list_backbones()
    ]
    return [("name", "title", "parameters", "FLOPs each", "input", "weights"), *rows]


def _datasets() -> list[tuple[str, ...]]:
    """List the datasets."""
    from fewshot_data import list_datasets

    rows = [(s.name, s.title, s.modality, str(s.classes)) for s in list_datasets()]
    return [("name", "title", "holds", "classes"), *rows]


def _presets() -> list[tuple[str, ...]]:
    """List the presets."""
    from fewshot_bench.grid import expand, list_presets, load_preset

    presets = {name: load_preset(name) for name in list_presets()}
    rows = [(name, p.title, str(len(expand(p)))) for name, p in presets.items()]
    return [("name", "title", "runs, at most"), *rows]


LISTS: dict[str, Callable[[], list[tuple[str, ...]]]] = {
    "methods": _methods, "backbones": _backbones, "datasets": _datasets, "presets": _presets,
}  # fmt: skip
