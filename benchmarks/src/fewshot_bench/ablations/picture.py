"""The comparisons as one picture: a row per backbone and dataset, a column per thing varied."""

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fewshot_bench.ablations.choices import KLORA, REFERENCES, SNELL, SPARSITIES, Choice
from fewshot_bench.ablations.paired import Task
from fewshot_bench.style import GREY, LIGHT, themed

__all__ = ["ablations_png"]

PANEL = (3.3, 3.0)  # inches
BLUE, RED, GREEN, VIOLET = "#165eca", "#ca165e", "#1f9d55", "#781fff"
Line = tuple[str, str, str, list[tuple[str, Choice]]]
"""Name, colour, marker and the variants by their place on the axis."""


def ablations_png(tasks: Sequence[Task]) -> bytes:
    """Draw every comparison on every task.

    Args:
        tasks: One or more backbones on datasets.

    Returns:
        The content of a PNG file; the same tasks give the same bytes.
    """
    from matplotlib.figure import Figure

    columns = (_sparsifier_lines(), _mask_lines(), _kernel_lines(), _rank_lines())
    names = ("sparsity s", "sparsity s", "kernel", "rank r")
    with themed(LIGHT):
        figure = Figure(figsize=(PANEL[0] * len(columns), PANEL[1] * len(tasks) + 0.6))
        grid = figure.subplots(len(tasks), len(columns), squeeze=False, sharey="row")
        for row, task in zip(grid, tasks, strict=True):
            for axes, lines, name in zip(row, columns, names, strict=True):
                _panel(axes, task, lines)
                axes.set_xlabel(name)
            row[0].set_ylabel("accuracy, %")
            row[0].set_title(f"{task.backbone} · {task.dataset}")
        for axes in grid[0]:
            handles = axes.get_legend_handles_labels()
            axes.legend(*handles, loc="lower left", fontsize=7.5)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


def _sparsifier_lines() -> list[Line]:
    """Every sparsifier over the sparsity."""
    looks = (("released", RED, "s"), ("paper", VIOLET, "^"), ("hard", BLUE, "o"))
    lines: list[Line] = [("none (KLoRA)", GREY, "D", [("0", KLORA)])]
    for name, colour, marker in looks:
        choices = [(str(s), replace(SNELL, sparsifier=name, sparsity=s)) for s in SPARSITIES]
        lines.append((name, colour, marker, choices))
    return lines


def _mask_lines() -> list[Line]:
    """The mask that is chosen once beside the dynamic one."""
    hard = [(str(s), replace(SNELL, sparsifier="hard", sparsity=s)) for s in (0.5, 0.9, 0.99)]
    fixed = [(place, replace(choice, mask="fixed")) for place, choice in hard]
    return [("dynamic mask", BLUE, "o", hard), ("fixed mask", GREEN, "v", fixed)]


def _kernel_lines() -> list[Line]:
    """Kernels without sparsity, with it, and with the allocator."""
    names = (("linear", "linear"), ("piecewise", "piecewise_linear"), ("mixed", "mixed"))
    lines: list[Line] = [
        (name, colour, marker, [(short, replace(start, kernel=k)) for short, k in names])
        for name, colour, marker, start in (
            ("KLoRA", GREY, "D", KLORA), ("SNELL, s = 0.9", RED, "s", SNELL),
        )
    ]  # fmt: skip
    allocated = replace(SNELL, budget="allocated")
    shared = [(short, replace(allocated, kernel=k)) for short, k in names[1:]]
    return [*lines, ("s = 0.9, allocated", VIOLET, "P", shared)]


def _rank_lines() -> list[Line]:
    """Ranks without sparsity and with it."""
    return [
        (name, colour, marker, [(str(r), replace(start, r=r)) for r in (8, 16, 32)])
        for name, colour, marker, start in (
            ("KLoRA", GREY, "D", KLORA), ("SNELL, s = 0.9", RED, "s", SNELL),
        )
    ]  # fmt: skip


def _panel(axes: Any, task: Task, lines: Sequence[Line]) -> None:
    """Draw means with 95 % intervals, nudged sideways so that they can be told apart."""
    for reference, style in zip(REFERENCES, (":", "--"), strict=True):
        if known := task.accuracy(reference):
            axes.axhline(100 * known.mean, color=GREY, linewidth=1, linestyle=style)
    places = list(dict.fromkeys(place for line in lines for place, _ in line[3]))
    for number, (name, colour, marker, choices) in enumerate(lines):
        nudge = 0.09 * (number - (len(lines) - 1) / 2)
        known = [(place, task.accuracy(choice)) for place, choice in choices]
        drawn = [(places.index(p) + nudge, a) for p, a in known if a is not None]
        if drawn:
            axes.errorbar(
                [x for x, _ in drawn], [100 * a.mean for _, a in drawn],
                yerr=[100 * (a.half_width or 0) for _, a in drawn],
                color=colour, marker=marker, capsize=2, elinewidth=1, linewidth=1.2, label=name,
            )  # fmt: skip
    axes.set_xticks(range(len(places)), places)
    axes.set_xlim(-0.5, len(places) - 0.5)
