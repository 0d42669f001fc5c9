"""The tables of reading images: one for each split, number of workers and of passes."""

from collections.abc import Sequence

from fewshot_bench.speed.cells import markdown_table, milliseconds
from fewshot_bench.speed.image_readers import THEIRS
from fewshot_bench.speed.record import DecodingRow, SpeedResult

__all__ = ["decoding_tables"]


def decoding_tables(result: SpeedResult) -> list[str]:
    """Write what reading costs.

    Args:
        result: What was measured.

    Returns:
        Markdown tables.
    """
    groups: dict[tuple[str, int, int], list[DecodingRow]] = {}
    for row in result.decoding:
        groups.setdefault((row.split, row.workers, row.passes), []).append(row)
    return [_table(rows, result) for rows in groups.values()]


def _table(rows: Sequence[DecodingRow], result: SpeedResult) -> str:
    """Lay out the readers beside each other."""
    first = rows[0]
    theirs = next((row for row in rows if row.variant == THEIRS), first)
    size = f"{result.options.get('width')}x{result.options.get('height')}"
    head = f"{first.split.capitalize()} images, harness {first.harness}, {size}"
    head += f", {_workers(first.workers)}, {_passes(first.passes)}"
    head += f", {len(first.wall)} rounds, ms an image and pass"
    table = [
        (
            row.variant,
            milliseconds(row.processor_s.median),
            f"{milliseconds(row.processor_s.q25)} – {milliseconds(row.processor_s.q75)}",
            _ratio(row.processor_s.median, theirs.processor_s.median),
            milliseconds(row.wall_s.median),
            _ratio(row.wall_s.median, theirs.wall_s.median),
        )
        for row in rows
    ]
    columns = ("reader", "processor", "quartiles", f"÷ {THEIRS}", "wall", f"÷ {THEIRS}")
    return markdown_table(head, columns, table)


def _workers(number: int) -> str:
    """Say how many workers there were."""
    return "no workers" if number == 0 else f"{number} worker" + "s" * (number != 1)


def _passes(number: int) -> str:
    """Say how many passes there were."""
    return f"{number} pass" + "es" * (number != 1)


def _ratio(ours: float | None, theirs: float | None) -> str:
    """Write a ratio of two times."""
    return f"{ours / theirs:.3f}" if ours is not None and theirs else "–"
