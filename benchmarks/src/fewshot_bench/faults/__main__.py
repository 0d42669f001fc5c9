"""`python -m fewshot_bench.faults`: inject faults into real sweeps and count the damage."""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from fewshot_bench.atomic import write_text
from fewshot_bench.faults.session import FAULTS, read_faults, run_faults, table, write_faults
from fewshot_bench.speed.doc_page import fill_page

__all__ = ["main"]


@dataclass(frozen=True)
class Options:
    """Kill, damage and starve real sweeps; count what is lost, done twice or wrong."""

    faults: tuple[str, ...] = tuple(FAULTS)
    """Which, of: kill-sweep kill-worker damaged-files full-disk read-only two-sweeps clock-jumps
    hang out-of-memory. full-disk and read-only need the right to mount a tmpfs."""
    times: int | None = None
    """How often each is injected; none = its own number (50 kills of the sweep)."""
    seeds: int = 10
    """Seeds of the disturbed grid, three runs each."""
    seed: int = 0
    """Of the moments and victims."""
    out: Path = Path("results/faults.json")
    """The record."""
    page: Path | None = None
    """Put the table into this page, between its lines `begin faults` and `end faults`."""
    render: Path | None = None
    """Inject nothing: show this record."""


def main() -> int:
    """Run the command line.

    Returns:
        0 if everything held, 1 if not.
    """
    options = tyro.cli(Options, prog="python -m fewshot_bench.faults")
    if options.render is None:
        counts = {
            name: options.times or FAULTS[name][1] if name in FAULTS else 0
            for name in options.faults
        }
        record = run_faults(counts, seeds=options.seeds, seed=options.seed, say=_say)
        write_faults(record, options.out)
    else:
        record = read_faults(options.render)
    print(table(record))
    if options.page is not None:
        page = options.page.read_text(encoding="utf-8")
        write_text(options.page, fill_page(page, "faults", table(record)))
    return 0 if record.held else 1


def _say(text: str) -> None:
    """Say what is being done."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
