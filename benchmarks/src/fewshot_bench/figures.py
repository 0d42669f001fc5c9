"""What each figure draws: one block on one pair of axes. `drawing` makes pictures of them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fewshot_bench.statistics import Block, Row
from fewshot_bench.style import GREY, look
from fewshot_bench.text import shorten

__all__ = [
    "FIGURES",
    "FigureKind",
    "accuracy_against_memory",
    "accuracy_against_shots",
    "step_time",
]


@dataclass(frozen=True)
class FigureKind:
    """One kind of figure: a panel per backbone and dataset."""

    name: str
    title: str
    caption: str
    draw: Callable[[Any, Block], None]
    """Draws a block on axes."""


def accuracy_against_shots(axes: Any, block: Block) -> None:
    """Draw a line with intervals per row; a row that trains nothing is a level."""
    for index, row in enumerate(block.rows):
        drawn = look(row, block.rows)
        points = _estimates(row)
        style = {"color": drawn.colour, "linestyle": drawn.line, "label": row.label}
        if row.untrained and points:
            _, mean, width = points[0]
            axes.axhline(mean, **style, linewidth=1.2)
            axes.axhspan(mean - width, mean + width, color=drawn.colour, alpha=0.12, linewidth=0)
        if row.untrained or not points:
            continue
        # Nudged sideways, or the intervals of all methods lie on top of each other.
        nudge = 2 ** (0.4 * ((index + 0.5) / len(block.rows) - 0.5))
        shots, means, widths = zip(*points, strict=True)
        places = [_place(count, block.shots) * nudge for count in shots]
        filling = axes.get_facecolor() if row.control else drawn.colour
        axes.plot(places, means, marker=drawn.marker, markerfacecolor=filling, **style)
        axes.errorbar(
            places, means, yerr=widths, fmt="none",
            ecolor=drawn.colour, elinewidth=1, capsize=2, alpha=0.5,
        )  # fmt: skip
    _label_shots(axes, block.shots)
    axes.set_ylabel("accuracy, %")
    bottom, top = axes.get_ylim()
    axes.set_ylim(max(-2, bottom), min(102, top))


def accuracy_against_memory(axes: Any, block: Block) -> None:
    """Draw a point per row and the line of what nothing else beats."""
    points = []
    # The control lies so far below that beside it the methods could not be told apart.
    rows = [row for row in block.rows if not row.control] or block.rows
    for row in rows:
        cell, peak = row.cells.get(block.shots[-1]), row.peak_memory
        if cell is None or cell.accuracy is None or not peak:
            continue
        drawn, accuracy = look(row, block.rows), cell.accuracy
        place = (peak / 1e6, 100 * accuracy.mean)
        points.append(place)
        axes.errorbar(
            *place, yerr=100 * (accuracy.half_width or 0), linestyle="none",
            color=drawn.colour, marker=drawn.marker, markersize=7, capsize=2, elinewidth=1,
            label=row.label,
        )  # fmt: skip
    front = _front(points)
    if len(front) > 1:
        axes.step(*zip(*front, strict=True), where="post", color=GREY, linewidth=1, zorder=1)
    axes.set_xlabel("peak memory of a training step, MB")
    axes.set_ylabel(f"accuracy at {_plural(block.shots[-1])}, %")
    axes.margins(x=0.08, y=0.08)
    axes.set_ylim(top=min(102, axes.get_ylim()[1]))


def step_time(axes: Any, block: Block) -> None:
    """Draw a bar per row, fastest on top; the whisker spans the quartiles."""
    timed = [(row.step_time, row) for row in block.rows if row.step_time]
    # Weights do not change the time of a step: the control has a bar only where it is alone.
    timed = [pair for pair in timed if not pair[1].control] or timed
    timed.sort(key=lambda pair: pair[0][1], reverse=True)
    for position, ((low, middle, high), row) in enumerate(timed):
        spread = [[1e3 * (middle - low)], [1e3 * (high - middle)]]
        colour = look(row, block.rows).colour
        axes.barh(position, 1e3 * middle, color=colour, height=0.65)
        axes.errorbar(
            1e3 * middle, position, xerr=spread, fmt="none",
            ecolor=axes.xaxis.label.get_color(), elinewidth=1, capsize=3,
        )  # fmt: skip
        axes.annotate(
            f" {1e3 * middle:.1f}", (1e3 * max(high, middle), position),
            xytext=(4, 0), textcoords="offset points", va="center", fontsize=8,
        )  # fmt: skip
    axes.set_yticks(range(len(timed)), [shorten(row.label) for _, row in timed])
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    axes.set_xlabel("time of a training step, ms")


FIGURES: dict[str, FigureKind] = {
    kind.name: kind
    for kind in (
        FigureKind(
            "accuracy_shots",
            "Accuracy against shots",
            "Mean over seeds with its 95 % interval. Methods are shifted sideways a little so "
            "that intervals can be told apart. Dotted lines with hollow markers: the control, the "
            "same backbone with random weights.",
            accuracy_against_shots,
        ),
        FigureKind(
            "accuracy_memory",
            "Accuracy against peak memory",
            "At the most shots. Up and to the left is better; the grey steps join what no other "
            "method beats in both. The control is left out: it lies far below. A method "
            "that trains nothing has the memory of a forward pass.",
            accuracy_against_memory,
        ),
        FigureKind(
            "step_time",
            "Time of a training step",
            "Median at the most shots; the whisker spans the quartiles. Shorter is better.",
            step_time,
        ),
    )
}


def _estimates(row: Row) -> list[tuple[int, float, float]]:
    """List (shots, mean, half width of the interval) of a row, in per cent."""
    known = [(shots, cell.accuracy) for shots, cell in sorted(row.cells.items())]
    return [(k, 100 * a.mean, 100 * (a.half_width or 0)) for k, a in known if a is not None]


def _label_shots(axes: Any, shots: tuple[int, ...]) -> None:
    """Put a tick at every number of shots that was run, and nowhere else."""
    places = [_place(k, shots) for k in shots]
    axes.set_xscale("log", base=2)
    axes.set_xticks(places, ["all" if k < 1 else str(k) for k in shots])
    axes.minorticks_off()
    axes.set_xlim(min(places) / 1.6, max(places) * 1.6)
    axes.set_xlabel("shots (training examples per class)")


def _place(shots: int, all_shots: tuple[int, ...]) -> int:
    """Give a place on the axis; the whole training set (-1) stands right of every number."""
    return shots if shots > 0 else max(2 * max(all_shots), 1)


def _plural(shots: int) -> str:
    """Write a number of shots."""
    return "all" if shots < 1 else f"{shots} shot" + "s" * (shots != 1)


def _front(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Keep the points that no other point beats in memory and accuracy."""
    best, front = -math.inf, []
    for memory, accuracy in sorted(points, key=lambda p: (p[0], -p[1])):
        if accuracy > best:
            best = accuracy
            front.append((memory, accuracy))
    return front
