"""The tables of single layers: transient memory, the threshold alone, the pieces of a step."""

from collections.abc import Sequence

from fewshot_bench.speed.cells import MIB, blocks, markdown_table, milliseconds
from fewshot_bench.speed.pieces import PIECES
from fewshot_bench.speed.record import MemoryRow, PieceRow, SpeedResult

__all__ = ["layer_tables"]


def layer_tables(result: SpeedResult) -> list[str]:
    """Write everything of a result that is not about whole steps at one depth.

    Args:
        result: What was measured.

    Returns:
        Markdown tables.
    """
    tables = []
    for model in dict.fromkeys(row.model for row in result.depth):
        tables.append(_depth_table([row for row in result.depth if row.model == model]))
    if result.transient:
        tables.append(_transient_table(result))
    if result.threshold:
        tables.append(_threshold_table(result))
    for r in dict.fromkeys(row.r for row in result.pieces):
        tables.append(_piece_table([row for row in result.pieces if row.r == r]))
    return tables


def _depth_table(rows: Sequence[MemoryRow]) -> str:
    """Lay out the peaks of one model, a column per variant."""
    variants = list(dict.fromkeys(row.variant for row in rows))
    peaks = {(row.depth, row.variant): f"{row.peak_bytes / MIB:.0f}" for row in rows}
    depths = sorted({row.depth for row in rows if row.depth is not None})
    table = [[blocks(d), *(peaks.get((d, v), "–") for v in variants)] for d in depths]
    head = f"Memory against depth, {rows[0].model}, batch {rows[0].batch}, peak MiB"
    return markdown_table(head, ("blocks", *variants), table)


def _transient_table(result: SpeedResult) -> str:
    """Lay out what layers hold for a moment, in matrices of their size."""
    table = [
        (
            row.variant,
            f"{row.outputs}x{row.inputs}",
            *(f"{bytes_ / (4 * row.outputs * row.inputs):.3f}"
              for bytes_ in (row.forward_bytes, row.backward_bytes)),
        )
        for row in result.transient
    ]  # fmt: skip
    head = f"Transient of one layer, m·n floats, {result.transient[0].tokens} tokens"
    return markdown_table(head, ("variant", "layer", "forward", "backward"), table)


def _threshold_table(result: SpeedResult) -> str:
    """Lay out the algorithms, shape by shape."""
    table = []
    for row in result.threshold:
        base = [r.call_s.median for r in result.threshold
                if (r.outputs, r.inputs) == (row.outputs, row.inputs)
                and r.variant == "torch.quantile"]  # fmt: skip
        ratio = (base[0] or 0.0) / (row.call_s.median or 1.0) if base else 0.0
        numbers = f"{ratio:.1f}" if base else "–", f"{row.survivors:,}", str(row.differing)
        shape = f"{row.outputs}x{row.inputs}"
        table.append((row.variant, shape, milliseconds(row.call_s.median), *numbers))
    columns = ("algorithm", "matrix", "ms", "times as fast", "survivors", "other entries")
    head = f"The threshold alone, sparsity {result.threshold[0].sparsity:g}"
    return markdown_table(head, columns, table)


def _piece_table(rows: Sequence[PieceRow]) -> str:
    """Lay out the pieces of one rank."""
    order = list(PIECES)
    table = [
        (
            row.piece,
            row.variant,
            milliseconds(row.call_s.median),
            f"{row.bytes / MIB:.1f}",
            f"{row.bytes / (row.call_s.median or 1.0) / 1e9:.1f}",
        )
        for row in sorted(rows, key=lambda row: order.index(row.piece))
    ]
    first = rows[0]
    head = f"Pieces of a step, {first.outputs}x{first.inputs}, r {first.r}"
    return markdown_table(head, ("piece", "variant", "ms", "MiB", "GB/s"), table)
