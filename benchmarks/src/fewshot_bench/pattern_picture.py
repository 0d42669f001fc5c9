"""The picture of a sparsity pattern: what every layer keeps, by depth and role, and how it came."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fewshot_bench.style import LIGHT, themed

__all__ = ["Place", "pattern_png", "place_of"]

Pattern = Mapping[str, float]
COLOURS = ("#165eca", "#ca165e", "#1f9d55", "#e8960c", "#781fff", "#7d8590")
STYLES = ("-", "--", ":", "-.")


class Place(NamedTuple):
    """Where a layer stands: in which tower, how deep, and what it does there."""

    tower: str
    depth: int
    role: str


def place_of(name: str) -> Place:
    """Read a module's name.

    Args:
        name: As in `SparsityAllocator.pattern()`.

    Returns:
        Its place; the first number in the name is the depth, and what has none is at depth 0.

    Examples:
        >>> place_of("model.blocks.2.mlp.fc1")
        Place(tower='model.blocks', depth=2, role='mlp.fc1')
        >>> place_of("0")
        Place(tower='', depth=0, role='weight')
    """
    match = re.fullmatch(r"(?:(.*?)\.)?(\d+)(?:\.(.*))?", name)
    if match is None:
        return Place("", 0, name)
    return Place(match[1] or "", int(match[2]), match[3] or "weight")


def pattern_png(pattern: Pattern, history: Sequence[tuple[int, Pattern]] = ()) -> bytes:
    """Draw what every layer keeps.

    Args:
        pattern: Module name to sparsity, as `SparsityAllocator.pattern()` gives it.
        history: Optimizer steps done and the pattern from then on, to draw the way there too.

    Returns:
        The content of a PNG file; the same pattern gives the same bytes.

    Raises:
        ValueError: The pattern is empty.
    """
    from matplotlib.figure import Figure

    if not pattern:
        raise ValueError("pattern is empty: give the sparsity of at least one layer by its name")
    places = {name: place_of(name) for name in pattern}
    towers = list(dict.fromkeys(place.tower for place in places.values()))
    with themed(LIGHT):
        columns = len(towers) + bool(history)
        figure = Figure(figsize=(4.4 * columns, 3.6 + 0.8 * bool(history)))
        grid = figure.subplots(1, columns, squeeze=False)[0]
        for axes, tower in zip(grid, towers, strict=False):
            _draw_tower(axes, tower, {places[n]: 1 - s for n, s in pattern.items()})
        if history:
            _draw_history(grid[-1], places, history)
            figure.legend(loc="outside lower center", ncols=6, fontsize=7.5)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
    return buffer.getvalue()


def _draw_tower(axes: Any, tower: str, kept: dict[Place, float]) -> None:
    """Draw one tower: a column per depth, a row per role, the share that is kept written in."""
    here = {place: share for place, share in kept.items() if place.tower == tower}
    depths = sorted({place.depth for place in here})
    roles = list(dict.fromkeys(place.role for place in here))
    cells = [[here.get(Place(tower, d, role), float("nan")) for d in depths] for role in roles]
    axes.imshow(cells, cmap="Blues", vmin=0, vmax=max(kept.values()), aspect="auto")
    for row, values in enumerate(cells):
        for column, share in enumerate(values):
            if not math.isnan(share):  # this depth has such a layer
                ink = LIGHT.ground if share > 0.6 * max(kept.values()) else LIGHT.ink
                axes.text(column, row, f"{100 * share:.1f}", ha="center", va="center", color=ink)
    axes.set_xticks(range(len(depths)), [str(depth) for depth in depths])
    axes.set_yticks(range(len(roles)), roles)
    axes.grid(visible=False)
    axes.set_xlabel("depth (block)")
    axes.set_title(f"{tower or 'layers'}: entries kept, %")


def _draw_history(
    axes: Any, places: dict[str, Place], history: Sequence[tuple[int, Pattern]]
) -> None:
    """Draw a line per layer: its colour tells the role, its style the depth."""
    roles = list(dict.fromkeys(place.role for place in places.values()))
    depths = sorted({place.depth for place in places.values()})
    steps = [step for step, _ in history]
    steps.append(2 * steps[-1] - steps[-2] if len(steps) > 1 else steps[-1] + 1)  # the last part
    patterns = [pattern for _, pattern in history] + [history[-1][1]]
    for name, place in places.items():
        axes.step(
            steps, [100 * (1 - pattern[name]) for pattern in patterns], where="post",
            color=COLOURS[roles.index(place.role) % len(COLOURS)],
            linestyle=STYLES[depths.index(place.depth) % len(STYLES)],
            label=f"{place.depth} {place.role}", linewidth=1.2,
        )  # fmt: skip
    axes.set_ylim(0, 102)
    axes.set_xlabel("optimizer steps done")
    axes.set_title("entries kept while training, %")
