"""A result as Markdown tables: time, memory, the optimizer alone, every bar beside its number."""

from collections.abc import Iterable, Sequence

from fewshot_bench.speed.limits import Verdict, judge
from fewshot_bench.speed.record import MemoryRow, SpeedResult, TimeRow
from fewshot_bench.speed.variants import Choice

__all__ = ["markdown"]

MIB = 2**20


def markdown(result: SpeedResult) -> str:
    """Write a result for the documentation and the terminal.

    Args:
        result: What was measured.

    Returns:
        Markdown: a line on the circumstances, then a table per model and kind.
    """
    parts = [_circumstances(result)]
    for model in dict.fromkeys(row.model for row in result.time):
        rows = [row for row in result.time if row.model == model]
        parts.append(_time_table(rows))
    for model in dict.fromkeys(row.model for row in result.memory):
        rows = [row for row in result.memory if row.model == model]
        parts.append(_memory_table(rows))
    if result.optimizer:
        parts.append(_optimizer_table(result))
    parts.append(_bars(judge(result)))
    if result.left_out:
        parts.append(_left_out(result.left_out))
    return "\n\n".join(part for part in parts if part) + "\n"


def _circumstances(result: SpeedResult) -> str:
    """Say on what, with what and from which code."""
    meta = result.meta_info
    revision = (meta.git_revision or "unknown revision")[:12]
    dirty = " with uncommitted changes" if meta.git_dirty else ""
    versions = ", ".join(f"{name} {meta.packages[name]}" for name in ("torch", "timm", "peft"))
    kept = "" if result.allocator_set else "; allocator and threads as the system has them"
    return f"{meta.device}, {versions}; {revision}{dirty}; {result.created_at}{kept}."


def _time_table(rows: Sequence[TimeRow]) -> str:
    """Lay out the times of one model."""
    first = rows[0]
    head = f"Step time, {first.model}, batch {first.batch}, {_blocks(first.depth)}"
    head += f", {len(first.seconds)} rounds"
    table = [
        (_label(row), _ms(row.step_s.median), _quartiles(row), *_ratios(row, rows)) for row in rows
    ]
    return _table(head, ("variant", "median ms", "quartiles ms", "÷ floor", "÷ LoRA"), table)


def _memory_table(rows: Sequence[MemoryRow]) -> str:
    """Lay out the memory of one model; rows with a footnote are marked."""
    first = rows[0]
    head = f"Memory by simulation, {first.model}, batch {first.batch}, {_blocks(first.depth)}"
    table = [
        (
            _label(row) + " *" * bool(row.note),
            f"{row.peak_bytes / MIB:.0f}",
            *_ratios(row, rows),
            f"{row.saved_bytes / MIB:.0f}",
            f"{row.units:.2f}",
            f"{row.flops / 1e12:.3f}",
            str(row.operations or "–"),
        )
        for row in rows
    ]
    columns = ("variant", "peak MiB", "÷ floor", "÷ LoRA", "saved MiB", "units a block")
    columns += ("TFLOP", "operations")
    notes = dict.fromkeys(row.note for row in rows if row.note)
    return "\n\n".join([_table(head, columns, table), *(f"\\* {note}" for note in notes)])


def _optimizer_table(result: SpeedResult) -> str:
    """Lay out the cost of the optimizers."""
    table = [
        (
            _label(row),
            f"{row.entries:,}",
            _ms(row.step_s.median),
            _ms(row.redraw_s.median),
            str(row.operations),
            str(row.waits),
            f"{row.bytes_per_entry:.1f}",
        )
        for row in result.optimizer
    ]
    columns = ("variant", "entries", "step ms", "redraw ms", "operations", "waits", "bytes/entry")
    return _table(f"Optimizer alone, {result.optimizer[0].matrices} matrices", columns, table)


def _bars(verdicts: Iterable[Verdict]) -> str:
    """Set every bar beside what was measured."""
    table = []
    for verdict in verdicts:
        limit = verdict.limit
        what = f"{limit.quantity}, {Choice(limit.variant, limit.density).label}"
        what += f" ÷ {limit.against}" if limit.against else ""
        answer = ("met" if verdict.met else "**missed**") + (
            f" ({verdict.caution})" if verdict.caution else ""
        )
        measured, most = f"{verdict.measured:.4g}", f"≤ {limit.most:.4g}"
        table.append((what, verdict.model or "–", measured, most, answer, limit.source))
    if not table:
        return ""
    return _table("Bars", ("what", "model", "measured", "bar", "", "source"), table)


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


def _blocks(depth: int | None) -> str:
    """Say how many blocks there were."""
    return "all blocks" if depth is None else f"{depth} block" + "s" * (depth != 1)


def _quartiles(row: TimeRow) -> str:
    """Write the quartiles of the rounds."""
    return f"{_ms(row.step_s.q25)} – {_ms(row.step_s.q75)}"


def _ms(seconds: float | None) -> str:
    """Write seconds in milliseconds, with the digits that mean something."""
    value = 1e3 * (seconds or 0.0)
    return f"{value:.0f}" if value >= 1000 else f"{value:.4g}"


def _ratios(row: TimeRow | MemoryRow, rows: Sequence[TimeRow | MemoryRow]) -> tuple[str, str]:
    """Write the ratios to the floor and to stock LoRA, where those were measured."""
    found = []
    for other in ("floor", "lora"):
        base = [_size(r) for r in rows if r.variant == other]
        found.append(f"{_size(row) / base[0]:.3f}" if base and base[0] else "–")
    return found[0], found[1]


def _size(row: TimeRow | MemoryRow) -> float:
    """Give what the ratios are made of."""
    return float(row.peak_bytes) if isinstance(row, MemoryRow) else row.step_s.median or 0.0


def _table(head: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table that is readable as text too: padded, numbers to the right."""
    cells = [list(columns), *map(list, rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    lines = [
        "| " + " | ".join(_pad(c, w, i) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        + " |"
        for row in cells
    ]  # fmt: skip
    rule = "|" + "|".join(("-" * (w + 2)) if i == 0 else "-" * (w + 1) + ":"
                          for i, w in enumerate(widths)) + "|"  # fmt: skip
    return "\n".join([f"**{head}**", "", lines[0], rule, *lines[1:]])


def _pad(cell: str, width: int, column: int) -> str:
    """Fill a cell: names to the left, all else to the right."""
    return cell.ljust(width) if column == 0 else cell.rjust(width)
