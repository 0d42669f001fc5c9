"""The comparisons as Markdown tables, from result files alone."""

from collections.abc import Sequence

from fewshot_bench.ablations.choices import COMPARISONS, REFERENCES, Choice
from fewshot_bench.ablations.paired import Task
from fewshot_bench.statistics import Estimate

__all__ = ["markdown"]


def markdown(tasks: Sequence[Task]) -> str:
    """Write a table per comparison.

    Args:
        tasks: One or more backbones on datasets.

    Returns:
        Markdown. Accuracies in per cent: mean ± half of the 95 % interval (runs); differences in
        points, of the same seeds, with an asterisk where their interval leaves zero out.
    """
    parts = [_table("How much there is to adapt", [(c.method, c, None) for c in REFERENCES], tasks)]
    parts += [_table(comparison.title, comparison.rows, tasks) for comparison in COMPARISONS]
    return "\n\n".join(parts)


def _table(
    title: str, rows: Sequence[tuple[str, Choice, Choice | None]], tasks: Sequence[Task]
) -> str:
    """Write one comparison; a column of differences only where something is compared."""
    compared = any(other for _, _, other in rows)
    head = [title, *(h for task in tasks for h in _heads(task, compared))]
    lines = [head, ["---", *["--:"] * (len(head) - 1)]]
    lines += [
        [name, *(cell for task in tasks for cell in _cells(task, choice, other, compared))]
        for name, choice, other in rows
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _heads(task: Task, compared: bool) -> list[str]:
    """Name the columns of a task."""
    return [f"{task.backbone} · {task.dataset}", *["difference"] * compared]


def _cells(task: Task, choice: Choice, other: Choice | None, compared: bool) -> list[str]:
    """Write accuracy and difference of one variant on one task."""
    difference = task.difference(choice, other) if other else None
    return [
        _accuracy(task.accuracy(choice), len(task.failed.get(choice, []))),
        *[_difference(difference)] * compared,
    ]


def _accuracy(known: Estimate | None, failed: int) -> str:
    """Write a mean with its interval, the runs behind it and those that failed."""
    if known is None:
        return f"{failed} failed" if failed else "–"
    spread = "" if known.half_width is None else f" ± {100 * known.half_width:.1f}"
    lost = f" of {known.count + failed}" if failed else ""
    return f"{100 * known.mean:.1f}{spread} ({known.count}{lost})"


def _difference(known: Estimate | None) -> str:
    """Write a difference in points, with an asterisk where its interval leaves zero out."""
    if known is None:
        return ""
    if known.half_width is None:
        return f"{100 * known.mean:+.1f}"
    star = "\\*" if abs(known.mean) > known.half_width else ""
    return f"{100 * known.mean:+.1f} ± {100 * known.half_width:.1f}{star}"
