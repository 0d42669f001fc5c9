"""Pictures of the figures: an SVG panel for the page, a PNG file of all panels, their legend."""

import io
import math
from typing import Any

from fewshot_bench import figures
from fewshot_bench.figures import FigureKind
from fewshot_bench.statistics import Block
from fewshot_bench.style import GREY, LIGHT, Look, Theme, look, themed
from fewshot_bench.text import shorten

__all__ = ["figure_png", "panel_svg"]

PANEL = (4.8, 3.5)  # inches


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
    axes.set_title(shorten(block.title, 56))
    if not (axes.lines or axes.containers):
        axes.text(0.5, 0.5, "nothing was measured", ha="center", transform=axes.transAxes)


def _legend_rows(kind: FigureKind, blocks: tuple[Block, ...]) -> list[tuple[str, Look, bool]]:
    """List each label once, with its look and whether it is a level; the control is one entry."""
    if kind.draw is figures.step_time:  # its bars carry their names
        return []
    rows = [(row, block) for block in blocks for row in block.rows if row.top.accuracy]
    trained = {row.method for row, _ in rows if not row.control}
    found = {
        row.label: (shorten(row.label), look(row, block.rows), row.untrained)
        for row, block in rows
        if not row.control or row.method not in trained
    }
    entries = [found[label] for label in sorted(found)]
    # The control has the colours of its methods: one entry explains all of it.
    shown = kind.draw is figures.accuracy_against_shots
    control = shown and any(row.control and row.method in trained for row, _ in rows)
    return entries + [("random weights", Look(GREY, "o", ":"), False)] * control


def _legend_height(kind: FigureKind, blocks: tuple[Block, ...], columns: int) -> float:
    """Reserve inches for the legend, so that it takes nothing from the panels."""
    return 0.2 * math.ceil(len(_legend_rows(kind, blocks)) / columns) + 0.1


def _legend(figure: Any, kind: FigureKind, blocks: tuple[Block, ...], columns: int) -> None:
    """Put one legend below all panels."""
    from matplotlib.lines import Line2D

    entries = _legend_rows(kind, blocks)
    lines = kind.draw is figures.accuracy_against_shots
    handles = [
        Line2D(
            [], [], color=drawn.colour, linestyle=drawn.line if lines else "none",
            marker="" if level and lines else drawn.marker, label=label,
            markerfacecolor="none" if drawn.line == ":" else drawn.colour,
        )
        for label, drawn, level in entries
    ]  # fmt: skip
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8)
