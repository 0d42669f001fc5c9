"""The picture of memory against depth: a panel per model, a line per method."""

import io
from collections.abc import Sequence
from typing import Any

from fewshot_bench.speed.record import MemoryRow
from fewshot_bench.style import GREY, LIGHT, METHODS, themed

__all__ = ["depth_png"]

GIB = 2**30
SIZE = (8.0, 3.0)
"""Inches."""
NAMES = {
    "full": ("full", "full fine-tuning"),
    "lora": ("lora", "LoRA"),
    "released-snell": ("", "SNELL, released"),
    "snell": ("snell", "SNELL"),
}
"""Variant to method of the style and label; others are grey."""


def depth_png(rows: Sequence[MemoryRow]) -> bytes:
    """Draw peak memory against the number of blocks.

    Args:
        rows: Several depths of one or more models.

    Returns:
        The content of a PNG file; the same rows give the same bytes.

    Raises:
        ValueError: There are no rows.
    """
    from matplotlib.figure import Figure

    if not rows:
        raise ValueError("--figure draws memory against depth, and the result has none: "
                         "measure with --parts depth")  # fmt: skip
    models = list(dict.fromkeys(row.model for row in rows))
    with themed(LIGHT):
        figure = Figure(figsize=SIZE)
        panels = figure.subplots(1, len(models), squeeze=False)[0]
        for axes, model in zip(panels, models, strict=True):
            _draw(axes, [row for row in rows if row.model == model])
        panels[0].set_ylabel("peak of a training step, GiB")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(handles))
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=150, metadata={"Software": None})
    return picture.getvalue()


def _draw(axes: Any, rows: Sequence[MemoryRow]) -> None:
    """Draw one model."""
    for variant in dict.fromkeys(row.variant for row in rows):
        own = [row for row in rows if row.variant == variant]
        method, label = NAMES.get(variant, ("", variant))
        colour, marker = METHODS.get(method, (GREY, "x"))
        sizes = [row.peak_bytes / GIB for row in own]
        axes.plot([row.depth for row in own], sizes, color=colour, marker=marker, label=label)
    axes.set(title=f"{rows[0].model}, batch {rows[0].batch}", xlabel="blocks")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylim(bottom=0)
