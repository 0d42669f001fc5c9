"""One Markdown table of ours beside others' methods, from result files, for the README.

`python -m fewshot_bench.peer_table FOLDER` prints it.
"""

import sys
from collections.abc import Sequence

from fewshot_bench.collect import collect
from fewshot_bench.provenance import origins
from fewshot_bench.results import RunResult
from fewshot_bench.statistics import Block, Row, summarise
from fewshot_bench.web.marks import GROUPS, group_of, mark

__all__ = ["peer_table"]

HEAD = ("method", "whose", "error, %", "step time / LoRA", "peak memory / LoRA")
PACKAGES = ("torch", "peft", "bitsandbytes", "galore-torch")


def peer_table(results: Sequence[RunResult]) -> str:
    """Write methods as rows, smallest error first, whoever's method that is.

    Times and memories are ratios to LoRA's on the same backbone and dataset; all at the most shots.

    Args:
        results: Runs, as `nox -s peers` makes them; the control is left out.

    Returns:
        Markdown: a table, below it the date, the machine and the versions.

    Raises:
        ValueError: There is no completed run.
    """
    blocks = summarise(results)
    several = len(blocks) > 1
    rows = [line for block in blocks for line in _lines(block, several)]
    if not rows:
        raise ValueError("no completed run in these results: `nox -s peers` makes some")
    head = ("task",) * several + HEAD
    rule = ["---" if word in ("task", "method", "whose") else "---:" for word in head]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))
    return f"{table}\n\n{_where(results)}\n"


def _lines(block: Block, several: bool) -> list[list[str]]:
    """Write the rows of one task."""
    lora = next((r for r in block.rows if r.method == "lora" and not r.control), None)
    shown = [row for row in block.rows if not row.control and mark(row, block).error is not None]
    return [[_plain(block.title)] * several + _line(row, lora, block) for row in shown]


def _line(row: Row, lora: Row | None, block: Block) -> list[str]:
    """Write one row."""
    ours, base = mark(row, block), mark(lora, block) if lora else None
    spread = "" if ours.half is None else f" ± {ours.half:.1f}"
    return [
        _plain(row.label),
        GROUPS[group_of(row)],
        f"{ours.error:.1f}{spread} ({ours.runs})",
        _ratio(ours.step, base.step if base else None),
        _ratio(ours.memory, base.memory if base else None),
    ]


def _ratio(number: float | None, base: float | None) -> str:
    """Divide, where both were measured."""
    return f"{number / base:.2f}" if number and base else "–"


def _plain(name: str) -> str:
    """Keep a name from being read as Markdown or HTML."""
    text = " ".join(name.replace("&", "&amp;").replace("<", "&lt;").split())
    return "".join("\\" + sign if sign in "\\`*[]|" else sign for sign in text)


def _where(results: Sequence[RunResult]) -> str:
    """Say when, where and with which versions the runs were made."""
    said = []
    for origin in origins(results):
        meta, days = origin.meta, dict.fromkeys((origin.first[:10], origin.last[:10]))
        versions = [f"{name} {meta.packages[name]}" for name in PACKAGES if name in meta.packages]
        threads = f"{meta.threads} thread" + "s" * (meta.threads != 1)
        facts = [" to ".join(days), f"{meta.device}, {threads}", f"code {origin.revision}"]
        said.append(f"{origin.runs} runs, " + ", ".join(map(_plain, [*facts, *versions])) + ".")
    return "Error: mean ± 95 % t-interval over seeds, in brackets how many. " + " ".join(said)


if __name__ == "__main__":
    print(peer_table(collect(sys.argv[1] if len(sys.argv) > 1 else "results/peers").results))
