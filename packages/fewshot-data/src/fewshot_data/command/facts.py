"""`list` and `show`: what the registry knows."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from fewshot_data.command.parts import Command, add_name, add_root, columns, root_of, say
from fewshot_data.registry import DatasetSpec, list_datasets, load_spec
from fewshot_data.schema import GROUPS

__all__ = ["LIST", "SHOW"]


def _list_options(parser: argparse.ArgumentParser) -> None:
    """Options of `list`."""
    parser.add_argument("group", nargs="?", choices=GROUPS, metavar="GROUP",
                        help=f"one family only: {', '.join(GROUPS)}")  # fmt: skip
    add_root(parser)


def _list(options: argparse.Namespace) -> int:
    """Print a table of all datasets."""
    root = root_of(options)
    chosen = [s for s in list_datasets() if options.group in (None, s.group)]
    chosen.sort(key=lambda spec: (GROUPS.index(spec.group), spec.name))
    head = ("name", "group", "holds", "classes", "train / val / test", "title")
    rows = [
        (s.name, s.group, s.modality, str(s.classes or "–"), _sizes(s), s.title) for s in chosen
    ]
    if root is not None:
        head = (*head[:1], "there", *head[1:])
        rows = [(row[0], _there(spec, root), *row[1:])
                for row, spec in zip(rows, chosen, strict=True)]  # fmt: skip
    for line in columns([head, *rows]):
        say(line)
    return 0


def _sizes(spec: DatasetSpec) -> str:
    """Sizes of the splits; a sentence becomes a mark."""
    sizes = [spec.splits.get(name) for name in ("train", "val", "test")]
    return " / ".join(f"{n:,}" if isinstance(n, int) else ("*" if n else "–") for n in sizes)


def _there(spec: DatasetSpec, root: Path) -> str:
    """Whether a folder of one of its names is below the root."""
    if spec.group == "embedded":
        return "always"
    return "yes" if any((root / name).is_dir() for name in spec.folders) else "–"


def _show_options(parser: argparse.ArgumentParser) -> None:
    """Options of `show`."""
    add_name(parser)


def _show(options: argparse.Namespace) -> int:
    """Print every fact about one dataset."""
    for line in describe(load_spec(options.name)):
        say(line)
    return 0


def describe(spec: DatasetSpec) -> Iterator[str]:
    """Describe a dataset, line by line.

    Args:
        spec: The dataset.

    Yields:
        Lines: a fact each, lists below their head.
    """
    yield f"{spec.name}: {spec.title}"
    facts = {
        "also called": ", ".join(spec.aliases),
        "holds": f"{spec.modality}, {spec.classes or 'no fixed'} classes, metric {spec.metric}",
        "splits": ", ".join(f"{name} {size}" for name, size in spec.splits.items()),
        "folders": ", ".join(f"{name}/" for name in spec.folders),
        "layouts": ", ".join(_layouts(spec)),
        "transforms": spec.transforms,
        "licence": spec.licence,
        "cite": spec.citation,
        "on the hub": ", ".join(spec.hub),
        "download": f"torchvision.datasets.{spec.download}" if spec.download else "",
        "notes": spec.notes,
    }
    for name, value in facts.items():
        if value:
            yield f"  {name}: {value}"
    for head, lines in (("homes", spec.homes), *_groups(spec)):
        if lines:
            yield f"  {head}:"
            yield from (f"    {line}" for line in lines)


def _groups(spec: DatasetSpec) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Templates by group, and what classes are renamed to."""
    for group, lines in spec.templates.items():
        yield f"templates, {group}", lines
    yield "renames", tuple(f"{name} -> {to}" for name, to in spec.renames.items())


def _layouts(spec: DatasetSpec) -> tuple[str, ...]:
    """The layouts that it can be read in, as far as copies of them can be made."""
    from fewshot_data.made import MAKERS, layouts

    return layouts(spec) if spec.source in MAKERS else ()


LIST = Command("list", "list all datasets, or those of a group", _list_options, _list)
SHOW = Command("show", "show every fact about a dataset", _show_options, _show)
