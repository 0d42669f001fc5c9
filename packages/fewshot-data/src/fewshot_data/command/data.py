"""`check`, `make` and `download`: data on disk."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from fewshot_data.check import Report, check_dataset
from fewshot_data.command.parts import Command, add_name, add_root, root_of, say
from fewshot_data.registry import DatasetSpec, list_datasets, load_spec
from fewshot_data.schema import GROUPS

__all__ = ["CHECK", "DOWNLOAD", "MAKE"]

SHOWN = 20


def _check_options(parser: argparse.ArgumentParser) -> None:
    """Options of `check`."""
    add_name(parser, "a dataset; a group; or `all`, which checks whatever is below the root")
    add_root(parser)
    parser.add_argument("--decode", metavar="N", default="0",
                        help="decode N images, spread over the set, or `all`")  # fmt: skip
    strict = "fail unless classes, counts and splits are the published ones"
    parser.add_argument("--strict", action="store_true", help=strict)
    parser.add_argument("--json", action="store_true", help="write the report as JSON")


def _check(options: argparse.Namespace) -> int:
    """Check one dataset or several."""
    root, decode = root_of(options), _count(options.decode)
    reports = [
        check_dataset(spec, root, decode=decode, on_image=_progress(spec.name))
        for spec in _chosen(options.name, root)
    ]
    if options.json:
        say(json.dumps([dataclasses.asdict(report) for report in reports], indent=1))
    else:
        for report in reports:
            for line in _lines(report, options.strict):
                say(line)
    return 0 if all(report.ok(strict=options.strict) for report in reports) else 1


def _chosen(name: str, root: Path | None) -> list[DatasetSpec]:
    """The datasets that a name stands for."""
    if name not in ("all", *GROUPS):
        return [load_spec(name)]
    chosen = [s for s in list_datasets() if name in ("all", s.group)]
    there = [s for s in chosen if s.group == "embedded" or (root and _any_folder(s, root))]
    if not there:
        raise ValueError(
            f"nothing of '{name}' is below {root}: give --root, the folder of all data"
        )
    return there


def _any_folder(spec: DatasetSpec, root: Path) -> bool:
    """Whether a folder of one of its names is there."""
    return any((root / folder).is_dir() for folder in spec.folders)


def _count(text: str) -> int:
    """How many images to decode."""
    if text == "all":
        return -1
    if not text.isdigit():
        raise ValueError(f"--decode is '{text}': give a number or 'all'")
    return int(text)


def _progress(name: str) -> Callable[[int, int], None]:
    """Write how far decoding is, on a terminal."""

    def show(done: int, total: int) -> None:
        if sys.stderr.isatty() and (done % 50 == 0 or done == total):
            end = "\n" if done == total else ""
            sys.stderr.write(f"\r{name}: {done:,} of {total:,} images{end}")

    return show


def _lines(report: Report, strict: bool) -> Iterator[str]:
    """Lay a report out."""
    verdict = "ok" if report.ok(strict=strict) else "NOT ok"
    if report.error:
        yield f"{report.name}: {verdict}"
        yield f"  {report.error}"
        return
    state = "published splits" if report.published else "NOT the published splits"
    yield f"{report.name}: {verdict}, {state}"
    yield f"  {report.origin}" if report.origin else "  embedded data"
    found, wanted = report.classes
    yield f"  classes: {found}" + (f" (published: {wanted})" if wanted not in (None, found) else "")
    for split, (count, known) in report.counts.items():
        yield f"  {split}: {count:,}" + (
            f" (published: {known})" if known not in (None, count) else ""
        )
    if report.decoded:
        yield f"  decoded: {report.decoded:,} images, {len(report.unreadable)} unreadable"
    for head, lines in (
        ("differs", report.complaints),
        ("note", report.notes),
        ("unreadable", report.unreadable),
        ("ignored cache", report.caches),
    ):
        yield from (f"  {head}: {line}" for line in lines[:SHOWN])
        if len(lines) > SHOWN:
            yield f"  {head}: and {len(lines) - SHOWN} more"


def _make_options(parser: argparse.ArgumentParser) -> None:
    """Options of `make`."""
    add_name(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of all data")
    parser.add_argument("--layout", help="one of those that `show` lists; the first by default")


def _make(options: argparse.Namespace) -> int:
    """Write a made-up copy."""
    from fewshot_data.made import make

    folder = make(load_spec(options.name), options.out, layout=options.layout)
    say(f"a made-up copy, to see the layout: {folder}")
    return 0


def _download_options(parser: argparse.ArgumentParser) -> None:
    """Options of `download`."""
    add_name(parser)
    add_root(parser)


def _download(options: argparse.Namespace) -> int:
    """Download through torchvision."""
    from fewshot_data.download import download

    root = root_of(options)
    if root is None:
        raise ValueError("--root is missing: name the folder that the data is to go to")
    say(f"downloaded into {download(load_spec(options.name), root)}")
    return 0


CHECK = Command(
    "check", "find a dataset on disk, count it and say what is wrong", _check_options, _check,
    "Exit code 1 if it cannot be used, or with --strict if it is not the published data.",
)  # fmt: skip
MAKE = Command("make", "write a tiny made-up copy in the exact layout", _make_options, _make)
DOWNLOAD = Command("download", "download images through torchvision", _download_options, _download)
