"""The page: what the template shows, computed here, so that the template only lays out."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewshot_bench import text
from fewshot_bench.collect import Collection
from fewshot_bench.provenance import cautions, origins
from fewshot_bench.results import RunResult
from fewshot_bench.statistics import Block, Row

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["render", "templates"]


@dataclass(frozen=True)
class Entry:
    """One cell of a table: what is read, and what it is sorted by."""

    shown: str
    value: float | str | None = None
    """Unrounded; `None` sorts last, whatever the direction."""


@dataclass(frozen=True)
class Line:
    """One row of a table."""

    name: str
    badge: str
    kind: str
    """A class for the style: `control`, `failed`, `best` or nothing."""
    entries: tuple[Entry, ...]


def templates() -> "Environment":
    """Give the templates of pages.

    Returns:
        Where they are found; whatever they show is escaped, and what they do not get is an error.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("fewshot_bench"),
        autoescape=True,  # names come from files
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(folder: Path, found: Collection, blocks: Sequence[Block], table: str) -> str:
    """Lay out the page.

    Args:
        folder: Where the results are; only its name is shown.
        found: The results and the files that were left out.
        blocks: The results, summarised.
        table: All runs as CSV, for the download.

    Returns:
        A whole HTML document that needs nothing from elsewhere.
    """
    return (
        templates()
        .get_template("report.html.j2")
        .render(
            title=folder.resolve().name or "results",
            found=found,
            dates=_dates(found.results),
            seeds=sorted({run.run_info.config.seed for run in found.results}),
            cautions=cautions(found.results),
            origins=origins(found.results),
            figures=_figures(blocks),
            blocks=[(block, [_line(row, block) for row in block.rows]) for block in blocks],
            runs=[_run(result) for result in found.results],
            csv="data:text/csv;base64," + _base64(table),
        )
    )


def _figures(blocks: Sequence[Block]) -> list[dict[str, Any]]:
    """Draw every panel twice, for light and dark."""
    from fewshot_bench.drawing import panel_svg
    from fewshot_bench.figures import FIGURES
    from fewshot_bench.style import DARK, LIGHT

    return [
        {
            "kind": kind,
            "panels": [
                {
                    "title": block.title,
                    "light": "data:image/svg+xml;base64," + _base64(panel_svg(kind, block, LIGHT)),
                    "dark": "data:image/svg+xml;base64," + _base64(panel_svg(kind, block, DARK)),
                }
                for block in blocks
            ],
        }
        for kind in FIGURES.values()
    ]


def _base64(content: str) -> str:
    """Encode for a `data:` address."""
    return base64.b64encode(content.encode()).decode()


def _dates(results: Sequence[RunResult]) -> str:
    """Say when the runs were made: a day, or the first and the last."""
    days = sorted({result.run_info.created_at[:10] for result in results})
    return " to ".join(dict.fromkeys([*days[:1], *days[-1:]]))


def _line(row: Row, block: Block) -> Line:
    """Write a row of a block."""
    step = row.step_time
    best = next((other for other in block.rows if not other.control), None)
    entries = [
        *(_accuracy(row, count) for count in block.shots),
        Entry(text.scaled(row.peak_memory, 1e6), row.peak_memory or None),
        Entry(text.scaled(step[1] if step else None, 1e-3), step[1] if step else None),
        Entry(text.count(row.trainable), row.trainable),
        Entry(text.count(row.changed), row.changed),
        Entry(text.size(row.adapter_bytes), row.adapter_bytes),
    ]
    badge = "control: random weights" if row.control else ""
    kind = "control" if row.control else "best" if row is best else ""
    return Line(
        row.label.replace(" (random)", "") if row.control else row.label,
        badge,
        kind,
        tuple(entries),
    )


def _accuracy(row: Row, shots: int) -> Entry:
    """Write an accuracy; it is sorted by its mean."""
    cell = row.cells.get(shots)
    known = cell.accuracy if cell else None
    return Entry(text.accuracy(cell), known.mean if known else None)


def _run(result: RunResult) -> Line:
    """Write one run, with its numbers as they are in its file."""
    info, train = result.run_info, result.train_info
    config, step = info.config, train.step_time_s.median if train.step_time_s else None
    entries = [
        *(Entry(word, word) for word in (config.method, config.backbone, config.dataset)),
        *(Entry(str(number), number) for number in (config.shots, config.seed)),
        Entry(config.checkpoint or "pretrained", config.checkpoint or "pretrained"),
        _exact(train.accuracy),
        Entry("–" if train.count is None else f"{train.correct}/{train.count}", train.correct),
        _exact(train.loss[-1] if train.loss else None),
        _exact(train.peak_memory_bytes),
        _exact(step),
        Entry(info.status, info.status),
    ]
    failed = info.status == "failed"
    control = config.checkpoint == "random"
    kind = "failed" if failed else "control" if control else ""
    return Line(info.name, "", kind, tuple(entries))


def _exact(number: float | None) -> Entry:
    """Write a number without rounding it away."""
    return Entry(
        "–" if number is None else f"{number:.6g}" if isinstance(number, float) else str(number),
        number,
    )
