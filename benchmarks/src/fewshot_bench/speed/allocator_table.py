"""What a GPU held beside what was simulated for it, as a table with the error."""

from collections.abc import Sequence

from fewshot_bench.speed.cells import MIB, blocks, markdown_table
from fewshot_bench.speed.record import AllocatorRow
from fewshot_bench.speed.variants import Choice

__all__ = ["allocator_tables"]


def allocator_tables(rows: Sequence[AllocatorRow]) -> list[str]:
    """Lay out every step that was done on a GPU, a table per model and batch size.

    Args:
        rows: What was measured.

    Returns:
        Markdown tables; none without rows.
    """
    groups: dict[tuple[str, int], list[AllocatorRow]] = {}
    for row in rows:
        groups.setdefault((row.model, row.batch), []).append(row)
    return [_table(group) for group in groups.values()]


def _table(rows: Sequence[AllocatorRow]) -> str:
    """Lay out one model at one batch size."""
    first = rows[0]
    head = f"Memory on a GPU, {first.model}, batch {first.batch}, {blocks(first.depth)}"
    table = [
        (
            Choice(row.variant, row.density).label,
            f"{row.measured_bytes / MIB:.0f}",
            f"{row.predicted_bytes / MIB:.0f}",
            f"{100 * (row.predicted_bytes / row.measured_bytes - 1):+.1f} %",
        )
        for row in rows
    ]
    return markdown_table(head, ("variant", "measured MiB", "simulated MiB", "error"), table)
