"""The picture of a support's life: a row per entry, and below it what the rows add up to."""

import io
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from fewshot_bench.style import LIGHT, themed

if TYPE_CHECKING:
    from fewshot_bench.support_life import Life

__all__ = ["FORGOTTEN", "KEPT", "ONLY_KEPT", "ONLY_SUPPORT", "life_png", "raster"]

NEVER, KEPT, ONLY_SUPPORT, ONLY_KEPT, FORGOTTEN = range(5)
COLOURS = (LIGHT.ground, "#165eca", "#a9cbf5", "#e8960c", "#e4e8ec")
NAMES = (
    "",
    "in the support, moments kept",
    "in the support, moments dropped after each step",
    "coasting: kept from an earlier support, no gradient",
    "forgotten: moments gone, the weight stays put",
)
SIZE = (8.0, 7.6)  # inches; 800 pixels wide on a page


def raster(life: "Life") -> np.ndarray:
    """Tell for each entry ever in a support what it is in each step.

    Args:
        life: What was recorded.

    Returns:
        Shape `(entries, steps)`: 0 before the first time, then `KEPT`, `ONLY_SUPPORT`, `ONLY_KEPT`
        or `FORGOTTEN`. Entries are in order of their first step; of those that came together the
        ones that stayed longest come first.
    """
    entries = sorted(set().union(*life.support))
    supports, kept = _members(life.support, entries), _members(life.kept, entries)
    before = np.roll(kept, 1, axis=1)
    before[:, 0] = False
    known = np.logical_or.accumulate(supports, axis=1)
    cells = np.where(known, FORGOTTEN, NEVER)
    cells[before] = ONLY_KEPT  # the last step of those that are pruned in it included
    cells[supports] = ONLY_SUPPORT
    cells[supports & kept] = KEPT
    union = supports | before
    last = union.shape[1] - union[:, ::-1].argmax(axis=1)
    order = np.lexsort((-kept.sum(axis=1), -last, known.argmax(axis=1)))
    return cells[order]


def life_png(life: "Life") -> bytes:
    """Draw one life.

    Args:
        life: What was recorded.

    Returns:
        The content of a PNG file; the same life gives the same bytes.
    """
    from matplotlib.figure import Figure

    with themed(LIGHT):
        figure = Figure(figsize=SIZE)
        rows, *strips = figure.subplots(4, sharex=True, height_ratios=(6, 1, 1, 1))
        _draw_rows(rows, life)
        _draw_strips(strips, life)
        for axes in (rows, *strips):
            for step in life.redraws():
                axes.axvline(step, color=LIGHT.ink, linewidth=0.9, linestyle=(0, (3, 2)))
        _legend(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=200, metadata={"Software": None})
    return buffer.getvalue()


def _members(sets: Sequence[Sequence[int]], entries: list[int]) -> np.ndarray:
    """Which entries (rows) are in the set of each step (columns)."""
    return np.stack([np.isin(entries, members) for members in sets], axis=1)


def _draw_rows(axes: Any, life: "Life") -> None:
    """Draw a row per entry, and name the supports."""
    from matplotlib.colors import ListedColormap

    cells = raster(life)
    extent = (0, cells.shape[1], len(cells), 0)
    colours = ListedColormap(COLOURS)
    axes.imshow(
        cells, cmap=colours, vmin=0, vmax=len(COLOURS) - 1, extent=extent, aspect="auto",
        interpolation="nearest",
    )  # fmt: skip
    axes.grid(visible=False)
    axes.set_ylabel(f"entries, in order of arrival\n({len(cells)} of {life.n:,} in the matrix)")
    ends = [0, *life.redraws(), cells.shape[1]]
    for number, (start, end) in enumerate(pairwise(ends), start=1):
        axes.text(
            (start + end) / 2, -0.012 * len(cells), f"support {number}",
            ha="center", va="bottom", fontsize=8,
        )  # fmt: skip


def _draw_strips(strips: Sequence[Any], life: "Life") -> None:
    """Draw three numbers of each step."""
    moving, mixed, touched = strips
    steps = len(life.support)
    edges = np.arange(steps + 1)
    lines = (
        (moving, [len(union) / life.k for union in life.unions()]),
        (mixed, [100 * share for share in life.shares()]),
        (touched, [100 * count / life.n for count in life.touched()]),
    )
    for axes, values in lines:
        axes.stairs(values, edges, baseline=None, color=COLOURS[KEPT], linewidth=1.6)
    moving.set(ylim=(0.9, 2.1), yticks=(1, 1.5, 2), ylabel="|U| / k")
    mixed.set(ylim=(-8, 108), yticks=(0, 50, 100), ylabel="% of k")
    touched.set(ylim=(0, 115 * life.touched()[-1] / life.n), ylabel="% of n")
    touched.set_xlim(0, steps)
    touched.set_xticks([0, *life.redraws(), steps])
    touched.set_xlabel("optimizer steps done")
    names = (
        f"entries that a step may move, |U|, per entry of a support, k = {life.k}",
        "share of the kept entries that are in the current support",
        f"share of the matrix's n = {life.n:,} entries touched so far",
    )
    for axes, name in zip(strips, names, strict=True):
        axes.set_title(name, fontsize=8.5, fontweight="normal", pad=3)


def _legend(figure: Any) -> None:
    """Explain the colours below everything."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    kinds = (KEPT, ONLY_SUPPORT, ONLY_KEPT, FORGOTTEN)
    handles: list[Any] = [Patch(facecolor=COLOURS[kind], label=NAMES[kind]) for kind in kinds]
    redraw = {"linewidth": 0.9, "linestyle": (0, (3, 2)), "label": "redraw: a new random support"}
    handles.append(Line2D([], [], color=LIGHT.ink, **redraw))
    figure.legend(handles=handles, loc="outside upper center", ncols=2, fontsize=8.5)
