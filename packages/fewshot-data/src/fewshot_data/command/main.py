"""Which subcommands there are, what they take, and how they end."""

import argparse
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches

from fewshot_data.command import data, draws, facts

__all__ = ["main"]

WRONG_INPUT, INTERRUPTED = 2, 130
COMMANDS = (facts.LIST, facts.SHOW, data.CHECK, draws.SAMPLE, draws.VERIFY, draws.SPLIT,
            data.MAKE, data.DOWNLOAD)  # fmt: skip


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, with the closest word."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Raise instead of printing the usage."""
        word = message.split("'")[1] if "invalid choice: '" in message else ""
        close = get_close_matches(word, [command.name for command in COMMANDS], n=1)
        hint = f": did you mean '{close[0]}'?" if close else ""
        raise ValueError(f"{message.split(' (choose')[0]}{hint} (see --help)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: What was typed after ``fewshot-data``; ``None`` is the process's own.

    Returns:
        The exit code: 0; 1 if checked data is not as it should be; 2 for wrong input, with one
        line on stderr; 130 after Ctrl-C.

    Raises:
        SystemExit: After ``--help``.

    Examples:
        >>> main(["show", "digtis"])
        2
    """
    typed = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = _parser().parse_args(typed or ["--help"])
        return options.run(options)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError) as error:
        return _complain(str(error), WRONG_INPUT)


def _parser() -> argparse.ArgumentParser:
    """Build the parser of all subcommands."""
    parser = _Parser(
        prog="fewshot-data",
        description="Few-shot datasets on your disk: list, check, sample. "
        "Stuck? `fewshot-data check NAME --root DIR` says what is missing.",
    )
    parsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        own = parsers.add_parser(command.name, help=command.help, description=command.description)
        command.add_options(own)
        own.set_defaults(run=command.run)
    return parser


def _complain(message: str, code: int) -> int:
    """Write one line to stderr and give the exit code."""
    sys.stderr.write(f"fewshot-data: {' '.join(message.split())}\n")
    return code
