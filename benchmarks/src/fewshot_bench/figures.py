"""The figures: each draws one block on one pair of axes; panels and pages are put together here."""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fewshot_bench.statistics import Block, Row
from fewshot_bench.style import GREY, LIGHT, Look, Theme, look, themed

__all__ = ["FIGURES", "FigureKind", "figure_png", "panel_svg"]

PANEL = (4.8, 3.5)  # inches


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
        places = [count * nudge for count in shots]
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
    for row in block.rows:
        cell, peak = row.cells.get(block.shots[-1]), row.peak_memory
        if cell is None or cell.accuracy is None or not peak:
            continue
        drawn, accuracy = look(row, block.rows), cell.accuracy
        place = (peak / 1e6, 100 * accuracy.mean)
        points += [] if row.control else [place]
        axes.errorbar(
            *place, yerr=100 * (accuracy.half_width or 0), linestyle="none",
            color=drawn.colour, marker=drawn.marker, markersize=7, capsize=2, elinewidth=1,
            markerfacecolor=axes.get_facecolor() if row.control else drawn.colour, label=row.label,
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
    timed = [(row.step_time, row) for row in block.rows if row.step_time and not row.control]
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
    axes.set_yticks(range(len(timed)), [_shorten(row.label) for _, row in timed])
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
            "method beats in both. Hollow: random weights. A method that trains nothing has no "
            "training step and so no point.",
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


def panel_svg(kind: FigureKind, block: Block, theme: Theme) -> str:
    """Draw one panel for the page.

    Args:
        kind: One of `FIGURES`.
        block: What to draw.
        theme: The colours around the data.

    Returns:
        An SVG document; the same block gives the same text.
    """
    from matplotlib.figure import Figure

    with themed(theme):
        figure = Figure(figsize=(PANEL[0], PANEL[1] + _legend_height(kind, (block,), 3)))
        _panel(figure.subplots(), kind, block)
        _legend(figure, kind, (block,), columns=3)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def figure_png(kind: FigureKind, blocks: tuple[Block, ...]) -> bytes:
    """Draw every block side by side, with one legend, as a PNG picture.

    Args:
        kind: One of `FIGURES`.
        blocks: At least one block.

    Returns:
        The content of a PNG file; the same blocks give the same bytes.
    """
    from matplotlib.figure import Figure

    columns = min(3, len(blocks))
    rows = math.ceil(len(blocks) / columns)
    with themed(LIGHT):
        height = PANEL[1] * rows + _legend_height(kind, blocks, 3 * columns)
        figure = Figure(figsize=(PANEL[0] * columns, height))
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, block in zip(grid.flat, blocks, strict=False):
            _panel(axes, kind, block)
        for axes in grid.flat[len(blocks) :]:
            axes.set_visible(False)
        _legend(figure, kind, blocks, columns=3 * columns)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
    return buffer.getvalue()


def _panel(axes: Any, kind: FigureKind, block: Block) -> None:
    """Draw one block, or say that there is nothing to draw."""
    kind.draw(axes, block)
    axes.set_title(block.title)
    if not (axes.lines or axes.containers):
        axes.text(0.5, 0.5, "no completed run", ha="center", transform=axes.transAxes)


def _legend_rows(kind: FigureKind, blocks: tuple[Block, ...]) -> list[tuple[str, Look, bool]]:
    """List each label once, with its look and whether it is a level; the control is one entry."""
    if kind.draw is step_time:  # its bars carry their names
        return []
    found = {
        row.label: (_shorten(row.label), look(row, block.rows), row.untrained)
        for block in blocks
        for row in block.rows
        if row.top.accuracy and not row.control
    }
    control = any(row.control for block in blocks for row in block.rows)
    entries = [found[label] for label in sorted(found)]
    return entries + [("random weights", Look(GREY, "o", ":"), False)] * control


def _legend_height(kind: FigureKind, blocks: tuple[Block, ...], columns: int) -> float:
    """Reserve inches for the legend, so that it takes nothing from the panels."""
    return 0.2 * math.ceil(len(_legend_rows(kind, blocks)) / columns) + 0.1


def _legend(figure: Any, kind: FigureKind, blocks: tuple[Block, ...], columns: int) -> None:
    """Put one legend below all panels."""
    from matplotlib.lines import Line2D

    entries = _legend_rows(kind, blocks)
    lines = kind.draw is accuracy_against_shots
    handles = [
        Line2D(
            [], [], color=drawn.colour, linestyle=drawn.line if lines else "none",
            marker="" if level else drawn.marker, label=label,
            markerfacecolor="none" if drawn.line == ":" else drawn.colour,
        )
        for label, drawn, level in entries
        if lines or not level
    ]  # fmt: skip
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8)


def _estimates(row: Row) -> list[tuple[int, float, float]]:
    """List (shots, mean, half width of the interval) of a row, in per cent."""
    known = [(shots, cell.accuracy) for shots, cell in sorted(row.cells.items())]
    return [(k, 100 * a.mean, 100 * (a.half_width or 0)) for k, a in known if a is not None]


def _label_shots(axes: Any, shots: tuple[int, ...]) -> None:
    """Put a tick at every number of shots that was run, and nowhere else."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(shots, [str(k) for k in shots])
    axes.minorticks_off()
    axes.set_xlim(min(shots) / 1.6, max(shots) * 1.6)
    axes.set_xlabel("shots (training examples per class)")


def _plural(shots: int) -> str:
    """Write a number of shots."""
    return f"{shots} shot" + "s" * (shots != 1)


def _shorten(label: str) -> str:
    """Cut a label that would push the axes out of the figure; tables show it whole."""
    return label if len(label) <= 28 else label[:27] + "…"


def _front(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Keep the points that no other point beats in memory and accuracy."""
    best, front = -math.inf, []
    for memory, accuracy in sorted(points, key=lambda p: (p[0], -p[1])):
        if accuracy > best:
            best = accuracy
            front.append((memory, accuracy))
    return front
