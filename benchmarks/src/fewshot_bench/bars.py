"""Progress: of a run per step, of a sweep per run; lines in a log file, where no bar can move."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from fewshot_bench.config import RunConfig
from fewshot_bench.sweep import cost
from fewshot_bench.workers import Outcome

__all__ = ["run_bar", "sweep_bar"]

LOG_EVERY_S = 10.0


@contextmanager
def run_bar(console: Console, config: RunConfig) -> Iterator[Callable[[int, float], None]]:
    """Show a bar of the steps of one run.

    Args:
        console: Where.
        config: The run.

    Yields:
        What to call after each step, with its number and its loss.
    """
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    bar = Progress(*columns, TimeElapsedColumn(), console=console, transient=True)
    bar.disable = not console.is_terminal  # in a log file it would leave an empty line
    with bar as progress:
        task = progress.add_task(f"{config.method} on {config.backbone}", total=config.steps)

        def on_step(step: int, loss: float) -> None:
            text = f"{config.method} on {config.backbone}, loss {loss:.3f}"
            progress.update(task, completed=step + 1, description=escape(text))

        yield on_step


@contextmanager
def sweep_bar(
    console: Console, pending: list[RunConfig]
) -> Iterator[Callable[[RunConfig, Outcome], None]]:
    """Show a bar of the runs of a sweep, with the time left and the run that ended last.

    Args:
        console: Where.
        pending: The runs.

    Yields:
        What to call after each run.
    """
    columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), _TimeLeft()
    progress = Progress(*columns, TextColumn("{task.description}"), console=console)
    task = progress.add_task("starting", total=len(pending), cost=0.0, all=_total(pending))
    logged = time.monotonic()

    def on_done(config: RunConfig, outcome: Outcome) -> None:
        nonlocal logged
        spent = progress.tasks[0].fields["cost"] + cost(config)
        progress.update(task, advance=1, cost=spent, description=escape(_last(config, outcome)))
        if not console.is_terminal and time.monotonic() - logged >= LOG_EVERY_S:
            logged, now = time.monotonic(), progress.tasks[0]
            left = _left(now)
            console.print(f"{now.completed:.0f} of {len(pending)} runs, {left} left")

    if not pending:
        yield on_done
        return
    with progress:
        yield on_done


class _TimeLeft(ProgressColumn):
    """Time left, from the share of the work that is done rather than of the runs."""

    def render(self, task: Task) -> Text:
        """Write the estimate."""
        return Text(f"{_left(task)} left", style="progress.remaining")


def _left(task: Task) -> str:
    """Estimate the time left; long runs come first, so their number alone would mislead."""
    spent, total = task.fields["cost"], task.fields["all"]
    if task.elapsed is None or not spent:
        return "-:--"
    minutes, seconds = divmod(round(task.elapsed * max(0.0, total / spent - 1)), 60)
    return f"{minutes}:{seconds:02d}"


def _total(pending: list[RunConfig]) -> float:
    """Add up what the runs cost."""
    return sum(map(cost, pending))


def _last(config: RunConfig, outcome: Outcome) -> str:
    """Describe a run that has ended."""
    shown = "failed" if outcome.accuracy is None else f"{100 * outcome.accuracy:.1f} %"
    return f"{config.method} · {config.backbone} · {config.shots}-shot: {shown}"
