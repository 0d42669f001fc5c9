"""What subcommands share: their shape, the options of place and name, and how they write."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewshot_data.loaders import ROOT_VARIABLE

__all__ = ["Command", "add_name", "add_root", "columns", "root_of", "say"]


@dataclass(frozen=True)
class Command:
    """One subcommand.

    Args:
        name: What is typed.
        help: One line for the list of commands.
        add_options: Adds its options to its parser.
        run: From the parsed options to the exit code.
        more: Further sentences for its own help.
    """

    name: str
    help: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    more: str = ""

    @property
    def description(self) -> str:
        """What its own help begins with."""
        return f"{self.help[0].upper()}{self.help[1:]}. {self.more}".strip()


def add_name(
    parser: argparse.ArgumentParser, what: str = "a dataset of `fewshot-data list`"
) -> None:
    """Add the dataset's name."""
    parser.add_argument("name", metavar="NAME", help=what)


def add_root(parser: argparse.ArgumentParser) -> None:
    """Add the place of the data."""
    parser.add_argument(
        "--root",
        type=Path,
        metavar="DIR",
        help=f"folder of all data, or this dataset's own folder (default: ${ROOT_VARIABLE})",
    )


def root_of(options: argparse.Namespace) -> Path | None:
    """The place that was given, or the environment's."""
    given = os.environ.get(ROOT_VARIABLE)
    return options.root or (Path(given) if given else None)


def say(text: str = "") -> None:
    """Write a line to stdout."""
    sys.stdout.write(f"{text}\n")


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lay rows out in columns, the first row as a head.

    Args:
        rows: Equally long.

    Returns:
        Lines.

    Examples:
        >>> columns([("name", "n"), ("dtd", "47")])
        ['name  n', 'dtd   47']
    """
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
