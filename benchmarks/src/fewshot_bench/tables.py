"""The tables that the terminal shows."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fewshot_bench import text
from fewshot_bench.against import Comparison, sources
from fewshot_bench.results import RunResult
from fewshot_bench.statistics import Block, Row
from fewshot_bench.variants import BEST_ON_TEST

__all__ = ["EXPLANATION", "against_table", "block_table", "run_table"]

EXPLANATION = (
    "Accuracy in %: mean ± 95 % interval over seeds (runs behind it; 2 of 3: one failed). Memory, "
    "time and parameters at the most shots. Green: the highest mean; where intervals overlap it is "
    "no ranking. Dim, (random): the control, the same backbone with random weights."
)


def block_table(block: Block) -> RenderableType:
    """Show a block: methods as rows, shots as columns, best accuracy first.

    Args:
        block: A backbone on a dataset.

    Returns:
        Something rich can print.
    """
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("method", overflow="fold")
    for shots in block.shots:
        head = "all" if shots < 1 else f"{shots} shot" + "s" * (shots != 1)
        table.add_column(head, justify="right")
    for name in ("peak\nMB", "step\nms", "train-\nable", "\nchanged"):
        table.add_column(name, justify="right", no_wrap=True)
    best = _best(block)
    for row in block.rows:
        table.add_row(*_cells(row, block.shots), style=_style(row, best))
    return Group(Text(block.title, style="bold cyan"), table)


def _best(block: Block) -> Row | None:
    """Find the best row that is no control; rows are sorted already."""
    ranked = [row for row in block.rows if not row.control and row.top.accuracy]
    return ranked[0] if ranked and block.shots[-1] in ranked[0].cells else None


def _cells(row: Row, shots: tuple[int, ...]) -> list[str | Text]:
    """Write a row of a block; text objects, so that brackets in names stay brackets."""
    step_time = row.step_time
    return [
        Text(row.label),
        *(text.accuracy(row.cells.get(k)) for k in shots),
        text.scaled(row.peak_memory, 1e6),
        text.scaled(step_time[1] if step_time else None, 1e-3),
        text.count(row.trainable),
        text.count(row.changed),
    ]


def _style(row: Row, best: Row | None) -> str:
    """Set the control and the best row apart."""
    return "dim" if row.control else "green" if row is best else ""


def run_table(result: RunResult) -> Table:
    """Show one run.

    Args:
        result: A run, completed or failed.

    Returns:
        A table of two columns.
    """
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _facts(result):
        table.add_row(name, Text(value))
    return table


def against_table(lines: Sequence[Comparison]) -> RenderableType:
    """Show our numbers beside published ones.

    Args:
        lines: From `against.compare`.

    Returns:
        Something rich can print.
    """
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("preset", overflow="fold")
    table.add_column("of", overflow="fold")
    for name in ("published", "ours", "apart"):
        table.add_column(name, justify="right")
    table.add_column("selection")
    table.add_column("note", justify="right")
    notes = sources(lines)
    for line in lines:
        number = notes.index(sources([line])[0]) + 1
        table.add_row(*map(Text, (line.preset, line.what)), *_apart(line), f"[{number}]")
    told = [Text(f"[{i}] {note}", style="dim") for i, note in enumerate(notes, start=1)]
    return Group(table, Text(), *told)


def _apart(line: Comparison) -> list[str]:
    """Write the numbers of a comparison, in per cent."""
    mark = BEST_ON_TEST if line.best_on_test else "last weights"
    if line.ours is None:
        return [f"{line.published:.1f}", line.missing, "–", mark]
    width = line.ours.half_width
    ours = f"{line.ours.mean:.1f}" + ("" if width is None else f" ± {width:.1f}")
    apart = f"{line.ours.mean - line.published:+.1f}"
    return [f"{line.published:.1f}", f"{ours} ({line.ours.count})", apart, mark]


def _facts(result: RunResult) -> list[tuple[str, str]]:
    """List what one run measured."""
    info, train = result.run_info, result.train_info
    config = info.config
    facts = [
        ("run", f"{config.method} on {config.backbone}, {config.dataset}"),
        ("shots, seed", f"{config.shots}, {config.seed}"),
    ]
    if info.error is not None:
        facts.append(("failed", info.error))
    if train.accuracy is not None:
        share = f"{100 * train.accuracy:.1f} % ({train.correct} of {train.count})"
        facts.append(("accuracy", share))
    if train.metric not in (None, "top1") and train.score is not None:
        facts.append((train.metric.replace("_", " "), f"{100 * train.score:.1f}"))
    if config.loop.selection != "last":
        step = train.selected_step
        facts.append(("weights", f"{BEST_ON_TEST}, of step {step}: this flatters the accuracy"))
    if train.loss:
        facts.append(("loss", f"{train.loss[0]:.3f} → {train.loss[-1]:.3f}"))
    total = f"{text.count(train.trainable_parameters)} of {text.count(train.total_parameters)}"
    facts += [
        ("trainable", total),
        ("peak memory", text.size(train.peak_memory_bytes or None)),
        ("adapter", text.size(train.adapter_bytes)),
        ("step time", text.duration(train.step_time_s.median if train.step_time_s else None)),
        ("whole run", text.duration(info.total_time_s)),
    ]
    return facts
