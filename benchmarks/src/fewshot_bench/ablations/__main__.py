"""`python -m fewshot_bench.ablations FOLDER [--out FILE.png]`: tables and a picture."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from fewshot_bench.ablations.paired import tasks_of
from fewshot_bench.ablations.table import markdown
from fewshot_bench.atomic import check_place, write_bytes
from fewshot_bench.collect import collect

__all__ = ["Options", "main"]

WRONG_INPUT = 2


@dataclass(frozen=True)
class Options:
    """Print the tables of `fewshot sweep --preset snell-ablations`, and draw its picture."""

    folder: tyro.conf.Positional[Path] = Path("results/snell-ablations")
    """What the sweep wrote to."""
    out: Path | None = None
    """The picture, a PNG file; none = tables only."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: What was typed; `None` = the process's own.

    Returns:
        The exit code: 0; 2 for wrong input, with one line on stderr.

    Raises:
        SystemExit: After `--help`, or on an unknown option.
    """
    options = tyro.cli(Options, prog="python -m fewshot_bench.ablations", args=arguments)
    try:
        if options.out is not None:
            check_place(options.out)
        tasks = tasks_of(collect(options.folder).results)
        print(markdown(tasks))
        if options.out is not None:
            from fewshot_bench.ablations.picture import ablations_png

            write_bytes(options.out, ablations_png(tasks))
    except (ValueError, OSError) as error:
        message = " ".join(str(error).split())
        print(f"fewshot_bench.ablations: {message}", file=sys.stderr, flush=True)
        return WRONG_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main())
