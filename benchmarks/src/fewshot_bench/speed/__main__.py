"""`python -m fewshot_bench.speed [--model NAME ...] [--depth N] [--out FILE]`."""

import sys
from collections.abc import Sequence

import tyro

from fewshot_bench.speed.command import run
from fewshot_bench.speed.options import Options

__all__ = ["main"]

MODULE = "fewshot_bench.speed"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line of SO's benchmark.

    Args:
        arguments: What was typed; `None` = the process's own, and then the process starts itself
            again with the allocator and the threads that measurements need.

    Returns:
        The exit code: 0; 2 for wrong input, with one line on stderr; 130 after Ctrl-C.

    Raises:
        SystemExit: After `--help`, or on an unknown option.
    """
    options = tyro.cli(Options, prog=f"python -m {MODULE}", args=arguments)
    return run(options, MODULE, start_again=arguments is None)


if __name__ == "__main__":
    sys.exit(main())
