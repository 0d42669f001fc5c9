"""`python -m fewshot_bench.speed.snell [NAME] [--snell-release CLONE]`: SNELL's tables by name.

Without a name it is `quick`; `--help` lists the names, and `NAME --help` the options.
"""

import sys
from collections.abc import Sequence

import tyro

from fewshot_bench.speed.command import run
from fewshot_bench.speed.options import PRESETS

__all__ = ["main"]

MODULE = "fewshot_bench.speed.snell"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line of SNELL's benchmark.

    Args:
        arguments: What was typed; `None` = the process's own, and then the process starts itself
            again with the allocator and the threads that measurements need.

    Returns:
        The exit code: 0; 2 for wrong input, with one line on stderr; 130 after Ctrl-C.

    Raises:
        SystemExit: After `--help`, or on an unknown option.
    """
    typed = list(sys.argv[1:] if arguments is None else arguments)
    unnamed = not typed or (typed[0].startswith("-") and typed[0] not in ("-h", "--help"))
    options = tyro.extras.overridable_config_cli(
        PRESETS, prog=f"python -m {MODULE}", args=["quick", *typed] if unnamed else typed
    )
    return run(options, MODULE, start_again=arguments is None)


if __name__ == "__main__":
    sys.exit(main())
