"""The pages of the site: an overview, and one page per backbone, dataset and method."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fewshot_bench import text
from fewshot_bench.against import Comparison
from fewshot_bench.collect import Collection
from fewshot_bench.page import templates
from fewshot_bench.provenance import cautions, origins
from fewshot_bench.statistics import Block, Row
from fewshot_bench.web.marks import GROUPS, Mark, mark, panels
from fewshot_bench.web.slugs import page_name

__all__ = ["Links", "pages"]


@dataclass(frozen=True)
class Links:
    """What lies beside the site; an address that is `None` is not linked."""

    docs: str | None = None
    history: str | None = None
    """The pages of asv: the same figures over commits."""


@dataclass(frozen=True)
class Entry:
    """One row of the table: a method, as configured, on one backbone and dataset."""

    row: Row
    block: Block
    mark: Mark

    @property
    def cells(self) -> list[tuple[str, float | None]]:
        """What is read in each column of numbers, and what it is sorted by."""
        mark, row = self.mark, self.row
        spread = "" if mark.half is None else f" ± {mark.half:.1f}"
        error = "–" if mark.error is None else f"{mark.error:.1f}{spread} ({mark.runs})"
        return [
            (error, mark.error),
            (text.scaled(mark.memory, 1.0), mark.memory),
            (text.scaled(mark.step, 1.0), mark.step),
            (text.count(row.trainable), row.trainable),
            (text.count(row.changed), row.changed),
        ]


@dataclass(frozen=True)
class Page:
    """One page, and which part of the results it shows."""

    file: str
    kind: str
    """`overview`, `backbone`, `dataset` or `method`."""
    name: str
    blocks: tuple[Block, ...]
    entries: tuple[Entry, ...] = field(repr=False)


def pages(
    folder: Path,
    found: Collection,
    blocks: Sequence[Block],
    links: Links,
    paper: Sequence[Comparison] = (),
) -> dict[str, str]:
    """Lay out every page.

    Args:
        folder: Where the results are; only its name is shown.
        found: The results and the files that were left out.
        blocks: The results, summarised.
        links: What to link to outside the site.
        paper: Published numbers beside ours, for the overview.

    Returns:
        HTML by file name; `index.html` is the overview.
    """
    environment = templates()
    made = _pages(tuple(blocks))
    shared = {
        "page_name": page_name,
        "groups": GROUPS,
        "title": folder.resolve().name or "results",
        "found": found,
        "cautions": cautions(found.results),
        "origins": origins(found.results),
        "links": links,
        "paper": paper,
        "menu": _menu(made),
    }
    layout = environment.get_template("web/page.html.j2")
    return {page.file: layout.render(page=page, **_own(page), **shared) for page in made}


def _own(page: Page) -> dict[str, Any]:
    """Collect what one page shows: choices only where there is something to choose from."""
    entries = page.entries
    choices = {
        "backbone": sorted({entry.block.backbone for entry in entries}),
        "dataset": sorted({entry.block.dataset for entry in entries}),
        "group": [name for name in GROUPS if any(e.mark.group == name for e in entries)],
    }
    return {
        "choices": {name: found for name, found in choices.items() if len(found) > 1},
        "data": {"panels": panels(page.blocks), "groups": GROUPS},
    }


def _pages(blocks: tuple[Block, ...]) -> list[Page]:
    """Decide which pages there are."""
    made = [_page("index.html", "overview", "overview", blocks)]
    for name in sorted({block.backbone for block in blocks}):
        chosen = tuple(block for block in blocks if block.backbone == name)
        made.append(_page(page_name("backbone", name), "backbone", name, chosen))
    for name in sorted({block.dataset for block in blocks}):
        chosen = tuple(block for block in blocks if block.dataset == name)
        made.append(_page(page_name("dataset", name), "dataset", name, chosen))
    for name in sorted({row.method for block in blocks for row in block.rows}):
        chosen = tuple(b for b in blocks if any(row.method == name for row in b.rows))
        made.append(_page(page_name("method", name), "method", name, chosen))
    return made


def _page(file: str, kind: str, name: str, blocks: tuple[Block, ...]) -> Page:
    """Choose the rows of a page, smallest error first, whoever's method that is."""
    entries = [
        Entry(row, block, mark(row, block))
        for block in blocks
        for row in block.rows
        if kind != "method" or row.method == name
    ]
    entries.sort(key=lambda e: (e.mark.error is None, e.mark.error or 0.0, e.row.label))
    return Page(file, kind, name, blocks, tuple(entries))


def _menu(made: list[Page]) -> dict[str, list[tuple[str, str]]]:
    """List the pages by their kind, for the navigation."""
    menu: dict[str, list[tuple[str, str]]] = {}
    for page in made[1:]:
        menu.setdefault(f"{page.kind}s", []).append((page.name, page.file))
    return menu
