"""What the plots of the site show: a mark per row, with its error, memory, time and group."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fewshot_bench.statistics import Block, Row
from fewshot_bench.style import look

__all__ = ["GROUPS", "Mark", "group_of", "mark", "panels"]

GROUPS = {
    "ours": "ours",
    "others": "others' methods",
    "usual": "usual practice",
    "control": "control: random weights",
}
OURS = ("so", "snell", "klora")
USUAL = ("full", "bias", "linear_probe", "zero_shot")
SYMBOLS = {
    "o": "circle", "s": "square", "D": "diamond", "^": "triangle-up", "v": "triangle-down",
    "P": "cross", "X": "x", ".": "circle-dot", "h": "hexagon", "<": "triangle-left",
    ">": "triangle-right", "p": "pentagon", "*": "star", "d": "diamond-tall",
}  # fmt: skip


@dataclass(frozen=True)
class Mark:
    """One row in the plots; what was not measured is `None`, and then the plot lacks the mark."""

    label: str
    method: str
    group: str
    """A key of `GROUPS`."""
    shots: int
    error: float | None
    """Mean error in per cent."""
    half: float | None
    """Half the width of its 95 % interval, in percentage points."""
    runs: int
    memory: float | None
    """Peak of a training step, MB."""
    step: float | None
    """Median step, ms."""
    colour: str
    symbol: str


def group_of(row: Row) -> str:
    """Say whose method a row is.

    Args:
        row: A row of a block.

    Returns:
        A key of `GROUPS`; a method that nobody here knows is others'.
    """
    if row.control:
        return "control"
    return "ours" if row.method in OURS else "usual" if row.method in USUAL else "others"


def mark(row: Row, block: Block) -> Mark:
    """Measure a row at the most shots of its block.

    Args:
        row: A row of the block.
        block: A backbone on a dataset.

    Returns:
        The mark, in the colour and shape that the row has in every figure.
    """
    cell = row.cells.get(block.shots[-1])
    known, step = cell.accuracy if cell else None, row.step_time
    drawn = look(row, block.rows)
    return Mark(
        label=row.label,
        method=row.method,
        group=group_of(row),
        shots=block.shots[-1],
        error=100 * (1 - known.mean) if known else None,
        half=100 * known.half_width if known and known.half_width is not None else None,
        runs=known.count if known else 0,
        memory=row.peak_memory / 1e6 if row.peak_memory else None,
        step=1e3 * step[1] if step else None,
        colour=drawn.colour,
        symbol=SYMBOLS[drawn.marker] + ("-open" if row.control else ""),
    )


def panels(blocks: Sequence[Block]) -> list[dict[str, Any]]:
    """List what the script of the site draws.

    Args:
        blocks: Any results, summarised.

    Returns:
        A table per block: its names and its marks, plain enough for JSON.
    """
    return [
        {
            "title": block.title,
            "backbone": block.backbone,
            "dataset": block.dataset,
            "shots": block.shots[-1],
            "marks": [asdict(mark(row, block)) for row in block.rows],
        }
        for block in blocks
    ]
