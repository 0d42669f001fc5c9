"""One look for every figure: a colour and a marker per method, on light or dark ground."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fewshot_bench.statistics import Row

__all__ = ["DARK", "GREY", "LIGHT", "METHODS", "Look", "Theme", "look", "themed"]


@dataclass(frozen=True)
class Theme:
    """The colours that change between light and dark."""

    ground: str
    ink: str
    faint: str


LIGHT = Theme(ground="#ffffff", ink="#24292f", faint="#d0d7de")
DARK = Theme(ground="#161b22", ink="#e6edf3", faint="#3d444d")


@dataclass(frozen=True)
class Look:
    """How a row is drawn, in every figure alike."""

    colour: str
    marker: str
    """A marker as matplotlib names it."""
    line: Any
    """A line style as matplotlib names it, or its pattern of dashes."""


# Visible on white and on near-black, and far apart for every kind of colour vision (a test says
# how far); each method also has a marker of its own.
METHODS = {
    "so": ("#165eca", "o"),
    "snell": ("#ca165e", "s"),
    "klora": ("#f075f0", "D"),
    "lora": ("#781fff", "^"),
    "full": ("#39c671", "v"),
    "bias": ("#a3a300", "P"),
    "linear_probe": ("#ae5113", "X"),
    "zero_shot": ("#7d8590", "."),
    "dora": ("#825fb1", "<"),
    "shira": ("#9b1423", ">"),
    "supertuning": ("#7cc1a0", "p"),
    "adamw_8bit": ("#cd3afc", "*"),
    "galore": ("#d57f4b", "d"),
}
GREY = "#7d8590"
OTHERS = ("#c44e52", "#6b8e23", "#8c6d5a", "#5f7fa8")
VARIANTS = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)))


def look(row: Row, rows: tuple[Row, ...]) -> Look:
    """Choose how a row is drawn.

    Args:
        row: One of `rows`.
        rows: The rows of its block, to tell variants of one method apart by their line.

    Returns:
        Colour and marker of the method; dotted for the random-weights control.
    """
    unknown = sorted({other.method for other in rows} - set(METHODS))
    if row.method in METHODS:
        colour, marker = METHODS[row.method]
    else:
        colour, marker = OTHERS[unknown.index(row.method) % len(OTHERS)], "h"
    if row.control:
        return Look(colour, marker, ":")
    same = sorted(other.label for other in rows if other.method == row.method and not other.control)
    return Look(colour, marker, VARIANTS[same.index(row.label) % len(VARIANTS)])


@contextmanager
def themed(theme: Theme) -> Iterator[None]:
    """Draw in a theme, without touching matplotlib's global settings.

    Args:
        theme: `LIGHT` or `DARK`.

    Yields:
        Nothing; figures made and saved inside have the theme.
    """
    import matplotlib as mpl

    settings = {
        "figure.facecolor": theme.ground,
        "figure.constrained_layout.use": True,
        "figure.constrained_layout.w_pad": 0.08,
        "savefig.facecolor": theme.ground,
        "axes.facecolor": theme.ground,
        "axes.edgecolor": theme.faint,
        "axes.labelcolor": theme.ink,
        "axes.titlecolor": theme.ink,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": theme.faint,
        "grid.linewidth": 0.6,
        "xtick.color": theme.ink,
        "ytick.color": theme.ink,
        "text.color": theme.ink,
        "text.parse_math": False,  # names come from files: a dollar sign is a dollar sign
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "legend.frameon": False,
        "lines.linewidth": 1.6,
        "lines.markersize": 5,
        "svg.hashsalt": "fewshot",  # the same numbers give the same bytes
    }
    with mpl.rc_context(settings), warnings.catch_warnings():
        # Names come from files: a sign that the font lacks is drawn as an empty box.
        warnings.filterwarnings("ignore", r"Glyph .* missing from font")
        yield
