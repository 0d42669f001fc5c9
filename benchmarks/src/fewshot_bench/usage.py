"""Arguments to a command; what tyro says about wrong ones in a box becomes one line."""

import contextlib
import dataclasses
import difflib
import functools
import io
import operator
import re
from typing import Annotated, Any, get_args, get_type_hints

import tyro

from fewshot_bench.schema import closest

__all__ = ["parse"]

DESCRIPTION = "Adapt pretrained backbones to a few examples per class, and measure what that costs."
RULE = re.compile(r"\s*(╭─|╰─|│ ─{3}|-{9})")
INSIDE = re.compile(r"Error parsing \S*tyro\S*: ")
MISPLACED = re.compile(r"Unrecognized or misplaced options: (.*) Arguments are applied .*")
APPLIED = re.compile(r" \(applied to [^)]*\)")


def parse(
    commands: dict[str, type], arguments: list[str], defaults: dict[str, Any] | None = None
) -> Any:
    """Read the command line.

    Args:
        commands: Name of each subcommand to the dataclass of its options.
        arguments: What was typed.
        defaults: Name of a subcommand to an instance that holds other defaults.

    Returns:
        An instance of one of the dataclasses.

    Raises:
        ValueError: The arguments make no sense; the message is one line and offers what is closest.
        SystemExit: After `--help`.
    """
    if not arguments:
        arguments = ["--help"]
    if not arguments[0].startswith("-") and arguments[0] not in commands:
        raise ValueError(f"unknown command {arguments[0]!r}: {closest(arguments[0], [*commands])}")
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                _union(commands, defaults or {}),
                prog="fewshot",
                description=DESCRIPTION,
                args=arguments,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as end:
        if end.code in (0, None):
            raise
        known = _options(commands[arguments[0]]) if arguments[0] in commands else []
        raise ValueError(_one_line(complaint.getvalue(), arguments[0], known)) from None


def _union(commands: dict[str, type], defaults: dict[str, Any]) -> Any:
    """Tell tyro which subcommands there are."""
    choices = [
        Annotated[
            command,
            tyro.conf.subcommand(name, **({"default": defaults[name]} if name in defaults else {})),
        ]
        for name, command in commands.items()
    ]
    return functools.reduce(operator.or_, choices)


def _options(command: type, prefix: str = "") -> list[str]:
    """List the options of a command, those of nested dataclasses with a dot."""
    names = []
    for name, hint in get_type_hints(command, include_extras=True).items():
        annotated = hasattr(hint, "__metadata__")
        inner = get_args(hint)[0] if annotated else hint
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            names += _options(inner, prefix if annotated else f"{prefix}{name}.")
        elif not annotated:  # what is annotated otherwise is positional
            names.append(f"--{prefix}{name}".replace("_", "-"))
    return names


def _one_line(box: str, command: str, known: list[str]) -> str:
    """Shorten tyro's box to its first paragraph and the option that was probably meant."""
    paragraphs = _paragraphs(box)
    message = " ".join(paragraphs[0]) if paragraphs else "the arguments make no sense"
    message = INSIDE.sub("", MISPLACED.sub(_unrecognized, message))
    meant = ""
    for paragraph in paragraphs[1:]:
        if paragraph[0].startswith("Perhaps you meant"):
            meant = meant or _meant(paragraph, command)
    message = message.rstrip(".") + (meant or _closest(message, known))
    target = command if not command.startswith("-") else ""
    return f"{message}; see `{' '.join(f'fewshot {target}'.split())} --help`"


def _unrecognized(found: re.Match[str]) -> str:
    """Say that options are unknown as tyro does where there is one place for them only."""
    words = APPLIED.sub(",", found[1]).rstrip(",")
    return f"Unrecognized options: {words}"


def _closest(message: str, known: list[str]) -> str:
    """Suggest an option where tyro, which is stricter, suggests none."""
    wrong = re.match(r"Unrecognized options: (--[^\s,=]+)", message)
    near = difflib.get_close_matches(wrong[1], known, n=1) if wrong else []
    return f": did you mean {near[0]!r}?" if near else ""


def _paragraphs(box: str) -> list[list[str]]:
    """Part the content of a box at its rules; a box is drawn in ASCII where there is no UTF-8."""
    paragraphs: list[list[str]] = [[]]
    for line in box.splitlines():
        if RULE.match(line):
            paragraphs.append([])
        elif content := line.strip("│ "):
            paragraphs[-1].append(content)
    found = [paragraph for paragraph in paragraphs if paragraph]
    return found if "╭" in box else found[1:]  # the title is a paragraph of its own in ASCII


def _meant(paragraph: list[str], command: str) -> str:
    """Pick the first suggestion that the command really has."""
    option = ""
    for line in paragraph[1:]:
        if line.startswith("--"):
            option = line.split()[0].rstrip(",")
        elif option and line.startswith(f"in fewshot {command} "):
            return f": did you mean {option!r}?"
    return ""
