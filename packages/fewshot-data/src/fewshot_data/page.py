"""The documentation's page of all datasets, written from the registry and from made-up copies."""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from fewshot_data.made import MAKERS, make
from fewshot_data.registry import DatasetSpec, list_datasets
from fewshot_data.schema import GROUPS

__all__ = ["datasets_page", "layout_lines"]

HEAD = """# All datasets

<!-- Written by `nox -s datasets_page` from datasets_registry/: edit the files there. -->

Every dataset that has a name, by group: how many classes and samples the published splits have,
what its folder may be called below the root of all data, and what belongs into it.
`fewshot-data list` and `fewshot-data show NAME` tell the same on the command line, and
`fewshot-data check NAME --root DIR` compares a copy on disk with it.
"""
TITLES = {
    "embedded": "Nothing to download",
    "clip": "CLIP's eleven few-shot sets",
    "imagenet-shift": "ImageNet's four shifts",
    "fgvc": "FGVC-5",
    "few-shot-lists": "NOAH's few-shot lists",
    "vtab-natural": "VTAB-1k, natural",
    "vtab-specialized": "VTAB-1k, specialized",
    "vtab-structured": "VTAB-1k, structured",
    "glue": "GLUE",
    "commonsense": "Commonsense reasoning",
}
PAGES = {
    "clip": "clip.md",
    "imagenet-shift": "clip.md",
    "fgvc": "fgvc.md",
    "few-shot-lists": "few-shot-lists.md",
    "vtab-natural": "vtab.md",
    "vtab-specialized": "vtab.md",
    "vtab-structured": "vtab.md",
    "glue": "text.md",
    "commonsense": "text.md",
}
"""Group to the page that says how its releases used it."""
IMAGES = (".jpg", ".jpeg", ".png")
STRAY = (".", "README", "tmp")
"""How the names of files begin that copies have because the real data has them."""


def datasets_page(groups: Sequence[str] = GROUPS) -> str:
    """Write the page.

    Args:
        groups: Which groups it tells of.

    Returns:
        Markdown: for each group a table, and for each dataset its facts and its files.

    Examples:
        >>> "### digits" in datasets_page(["embedded"])
        True
    """
    parts = [HEAD]
    for group in groups:
        chosen = [spec for spec in list_datasets() if spec.group == group]
        if chosen:
            parts.append(_group(group, chosen))
    return "\n".join(parts)


def layout_lines(spec: DatasetSpec) -> list[str]:
    """The files of a dataset below the root of all data, images summed up as ``…``.

    Args:
        spec: The dataset.

    Returns:
        Paths in ASCII order; none where nothing lies on disk.

    Examples:
        >>> from fewshot_data import load_spec
        >>> layout_lines(load_spec("dtd"))
        ['dtd/images/…', 'dtd/split_zhou_DescribableTextures.json']
    """
    if spec.source not in MAKERS:
        return []
    with tempfile.TemporaryDirectory() as folder:
        make(spec, folder)
        files = [path.relative_to(folder) for path in Path(folder).rglob("*") if path.is_file()]
    shown = {_summed(path) for path in files if not path.name.startswith(STRAY)}
    return sorted(line for line in shown if not _inside(line, shown))


def _summed(path: Path) -> str:
    """A file's own path, or for an image the folder of its class folders."""
    if path.suffix.lower() not in IMAGES:
        return path.as_posix()
    above = path.parents[1] if len(path.parts) > 3 else path.parent
    return f"{above.as_posix()}/…"


def _inside(line: str, shown: set[str]) -> bool:
    """Whether another line stands for it."""
    folders = [other.removesuffix("…") for other in shown if other.endswith("…") and other != line]
    return line.endswith("…") and any(line.startswith(folder) for folder in folders)


def _group(group: str, specs: Sequence[DatasetSpec]) -> str:
    """A group's section."""
    rows = ["| name | holds | classes | train / val / test | metric |", "|---|---|---|---|---|"]
    rows += [
        f"| [`{spec.name}`](#{spec.name}) | {spec.title} | "
        f"{spec.classes or '–'} | {_sizes(spec)} | {spec.metric} |"
        for spec in specs
    ]
    page = PAGES.get(group)
    more = f"\nWhat each release did with them: [{page}]({page}).\n" if page else ""
    head = f"## {TITLES.get(group, group)}\n{more}"
    return "\n".join([head, *rows, "", *(_dataset(spec) for spec in specs)])


def _sizes(spec: DatasetSpec) -> str:
    """Sizes of the splits; a sentence becomes a mark."""
    sizes = [spec.splits.get(name) for name in ("train", "val", "test")]
    return " / ".join(f"{n:,}" if isinstance(n, int) else ("*" if n else "–") for n in sizes)


def _dataset(spec: DatasetSpec) -> str:
    """A dataset's paragraph."""
    lines = [f"### {spec.name}", "", f"{spec.title}. {spec.notes}".strip(), ""]
    lines += [f"- {name}: {value}" for name, value in _facts(spec) if value]
    files = layout_lines(spec)
    if files:
        lines += ["", "```text", *files, "```"]
    return "\n".join([*lines, ""])


def _facts(spec: DatasetSpec) -> Iterator[tuple[str, str]]:
    """Name and value of each fact that is worth a line."""
    yield "also called", _code(spec.aliases)
    yield "its folder", _code(spec.folders)
    sentences = [f"{name}: {size}" for name, size in spec.splits.items() if isinstance(size, str)]
    yield "splits marked *", "; ".join(sentences)
    for group, lines in spec.templates.items():
        yield f"templates, {group}", _code(lines)
    yield "class names changed", ", ".join(f"`{a}` to `{b}`" for a, b in spec.renames.items())
    yield "transforms of its harness", _code([spec.transforms] if spec.transforms else [])
    yield "homes", "; ".join(spec.homes)
    yield "on the Hugging Face hub", _code(spec.hub)
    yield "torchvision downloads it", _code([spec.download] if spec.download else [])
    yield "licence", spec.licence
    yield "cite", spec.citation


def _code(words: Sequence[str]) -> str:
    """Words as code."""
    return ", ".join(f"`{word}`" for word in words)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(datasets_page(), encoding="utf-8")
