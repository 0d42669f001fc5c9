"""A result as Markdown tables: time, memory, the optimizer alone, every bar beside its number."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from fewshot_bench.speed.allocator_table import allocator_tables
from fewshot_bench.speed.cells import MIB, blocks, markdown_table, milliseconds
from fewshot_bench.speed.decoding_table import decoding_tables
from fewshot_bench.speed.layer_tables import layer_tables
from fewshot_bench.speed.limits import Verdict, judge
from fewshot_bench.speed.record import MemoryRow, SpeedResult, TimeRow
from fewshot_bench.speed.variants import Choice

__all__ = ["markdown"]

SNELLS = ("snell", "klora")
AnyRow = TypeVar("AnyRow", TimeRow, MemoryRow)


def markdown(result: SpeedResult) -> str:
    """Write a result for the documentation and the terminal.

    Args:
        result: What was measured.

    Returns:
        Markdown: a line on the circumstances, then a table per model and kind.
    """
    parts = [_circumstances(result)]
    parts += [_time_table(rows) for rows in _grouped(result.time)]
    parts += [_memory_table(rows) for rows in _grouped(result.memory)]
    if result.optimizer:
        parts.append(_optimizer_table(result))
    parts += [*layer_tables(result), *decoding_tables(result)]
    parts += allocator_tables(result.allocator)
    parts.append(_bars(judge(result)))
    if result.left_out:
        parts.append(_left_out(result.left_out))
    return "\n\n".join(part for part in parts if part) + "\n"


def _circumstances(result: SpeedResult) -> str:
    """Say on what, with what and from which code."""
    meta = result.meta_info
    revision = (meta.git_revision or "unknown revision")[:12]
    dirty = " with uncommitted changes" if meta.git_dirty else ""
    named = ("torch", "torchvision", "pillow") if result.decoding else ("torch", "timm", "peft")
    versions = ", ".join(f"{name} {meta.packages[name]}" for name in named)
    kept = "" if result.allocator_set else "; allocator and threads as the system has them"
    return f"{meta.device}, {versions}; {revision}{dirty}; {result.created_at}{kept}."


def _time_table(rows: Sequence[TimeRow]) -> str:
    """Lay out the times of one model."""
    first = rows[0]
    head = f"Step time, {first.model}, batch {first.batch}, {blocks(first.depth)}"
    head += f", {len(first.seconds)} rounds"
    others = _others(rows)
    table = [
        (_label(row), milliseconds(row.step_s.median), _quartiles(row), *_ratios(row, rows, others))
        for row in rows
    ]
    columns = ("variant", "median ms", "quartiles ms", *map(_beside, others))
    return markdown_table(head, columns, table)


def _memory_table(rows: Sequence[MemoryRow]) -> str:
    """Lay out the memory of one model; rows with a footnote are marked."""
    first = rows[0]
    head = f"Memory by simulation, {first.model}, batch {first.batch}, {blocks(first.depth)}"
    others = _others(rows)
    table = [
        (
            _label(row) + " *" * bool(row.note),
            f"{row.peak_bytes / MIB:.0f}",
            *_ratios(row, rows, others),
            f"{row.saved_bytes / MIB:.0f}",
            f"{row.units:.2f}",
            f"{row.flops / 1e12:.3f}",
            str(row.operations or "–"),
        )
        for row in rows
    ]
    columns = ("variant", "peak MiB", *map(_beside, others), "saved MiB", "units a block")
    columns += ("TFLOP", "operations")
    notes = dict.fromkeys(row.note for row in rows if row.note)
    return "\n\n".join([markdown_table(head, columns, table), *(f"\\* {note}" for note in notes)])


def _optimizer_table(result: SpeedResult) -> str:
    """Lay out the cost of the optimizers."""
    table = [
        (
            _label(row),
            f"{row.entries:,}",
            milliseconds(row.step_s.median),
            milliseconds(row.redraw_s.median),
            str(row.operations),
            str(row.waits),
            f"{row.bytes_per_entry:.1f}",
        )
        for row in result.optimizer
    ]
    columns = ("variant", "entries", "step ms", "redraw ms", "operations", "waits", "bytes/entry")
    return markdown_table(
        f"Optimizer alone, {result.optimizer[0].matrices} matrices", columns, table
    )


def _bars(verdicts: Iterable[Verdict]) -> str:
    """Set every bar beside what was measured."""
    table = []
    for verdict in verdicts:
        limit = verdict.limit
        what = f"{limit.quantity}, {Choice(limit.variant, limit.density).label}"
        what += f" ÷ {limit.against}" if limit.against else ""
        what += f", batch {limit.batch}" if limit.batch else ""
        answer = ("met" if verdict.met else "**missed**") + (
            f" ({verdict.caution})" if verdict.caution else ""
        )
        measured, most = f"{verdict.measured:.4g}", f"≤ {limit.most:.4g}"
        table.append((what, verdict.place or "–", measured, most, answer, limit.source))
    if not table:
        return ""
    return markdown_table("Bars", ("what", "model", "measured", "bar", "", "source"), table)


def _left_out(left_out: dict[str, str]) -> str:
    """List what is missing, by reason."""
    names: dict[str, list[str]] = {}
    for name, reason in left_out.items():
        names.setdefault(reason, []).append(name)
    lines = [f"- {'; '.join(those)}: {reason}" for reason, those in names.items()]
    return "Left out:\n\n" + "\n".join(lines)


def _label(row: object) -> str:
    """Name a row as its variant and density."""
    return Choice(row.variant, row.density).label  # type: ignore[attr-defined]


def _quartiles(row: TimeRow) -> str:
    """Write the quartiles of the rounds."""
    return f"{milliseconds(row.step_s.q25)} – {milliseconds(row.step_s.q75)}"


def _others(rows: Sequence[TimeRow | MemoryRow]) -> tuple[str, ...]:
    """Choose what a table compares with: SNELL's rulers are others than SO's."""
    if any(row.variant.startswith(SNELLS) for row in rows):
        return "floor", "full", "lora", "released-snell"
    return "floor", "lora"


def _beside(other: str) -> str:
    """Head a column of ratios."""
    return "÷ LoRA" if other == "lora" else f"÷ {other}"


def _ratios(
    row: TimeRow | MemoryRow, rows: Sequence[TimeRow | MemoryRow], others: Sequence[str]
) -> list[str]:
    """Write the ratios to other variants, where those were measured."""
    found = []
    for other in others:
        base = [_size(r) for r in rows if r.variant == other]
        found.append(f"{_size(row) / base[0]:.3f}" if base and base[0] else "–")
    return found


def _grouped(rows: Sequence[AnyRow]) -> list[list[AnyRow]]:
    """Put together what was measured on one model at one batch size."""
    groups: dict[tuple[str, int], list[AnyRow]] = {}
    for row in rows:
        groups.setdefault((row.model, row.batch), []).append(row)
    return list(groups.values())


def _size(row: TimeRow | MemoryRow) -> float:
    """Give what the ratios are made of."""
    return float(row.peak_bytes) if isinstance(row, MemoryRow) else row.step_s.median or 0.0
