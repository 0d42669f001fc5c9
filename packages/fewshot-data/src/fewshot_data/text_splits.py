"""Splits of a text dataset, in every form in which people keep one in a folder."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from fewshot_data.rows import SUFFIXES, Rows, read_rows

__all__ = ["SPLIT_NAMES", "find_split_files", "is_text_folder", "read_splits", "saved_files"]

SPLIT_NAMES: dict[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test", "testing"),
}
"""A split to the names that its files and folders may have."""

_PREFIX, _PART = r"(?:(?P<prefix>[^/]+)-)?", r"(?:-(?P<at>\d{5})-of-(?P<of>\d{5}))?"


def is_text_folder(path: Path) -> bool:
    """Whether a folder holds texts: a saved dataset, or tables of splits one of which is training.

    Args:
        path: The folder.

    Returns:
        False for a folder with folders of anything else, for these hold images.

    Examples:
        >>> is_text_folder(Path("no such folder"))
        False
    """
    if _is_saved(path):
        return True
    entries = [entry for entry in path.glob("*") if not entry.name.startswith(".")]
    if not all(_holds_tables(entry) for entry in entries if entry.is_dir()):
        return False
    train = SPLIT_NAMES["train"]
    found = [entry for place in (path, path / "data") for entry in place.glob("*")]
    return any(
        entry.name.lower().startswith(train)
        and (entry.is_dir() or entry.suffix.lower() in SUFFIXES)
        for entry in found
    )


def read_splits(
    folder: Path,
    splits: Mapping[str, Sequence[str]],
    *,
    quoted: bool = True,
    fields: Sequence[str] | None = None,
) -> dict[str, Rows]:
    r"""Read the splits that a folder holds.

    Args:
        folder: The dataset's folder.
        splits: Name of a split to the names that its files may have, the preferred one first.
        quoted: See `read_rows`.
        fields: See `read_rows`.

    Returns:
        Name of a split to its rows, for those that are there.

    Raises:
        FileNotFoundError: If a split lacks one of its parts.
        ValueError: If a file cannot be read.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "dev.csv").write_text("text,label\na,0\n")
        >>> sorted(read_splits(folder, SPLIT_NAMES))
        ['validation']
    """
    found = {name: find_split_files(folder, aliases) for name, aliases in splits.items()}
    return {
        name: read_rows(files, quoted=quoted, fields=fields)
        for name, files in found.items()
        if files
    }


def find_split_files(folder: Path, aliases: Sequence[str]) -> list[Path]:
    """The files of one split: one, or the numbered parts of it.

    Looked for, in this order: ``<split>/`` saved by ``save_to_disk``; then for each name and each
    suffix of `fewshot_data.rows.SUFFIXES` ``<split>.<suffix>`` and
    ``<split>-00000-of-00002.<suffix>``, with or without a name before the split
    (``glue-train.arrow``), in the folder itself and in ``data/``; then files of any name in
    ``<split>/``.

    Args:
        folder: The dataset's folder.
        aliases: Names that the split may have, the preferred one first.

    Returns:
        The files in order; empty if there are none.

    Raises:
        FileNotFoundError: If parts are missing; they are named.
        ValueError: If the folder was saved but its list of files is broken.

    Examples:
        >>> find_split_files(Path("no such folder"), ["train"])
        []
    """
    for alias in aliases:
        if _is_saved(folder / alias):
            return saved_files(folder / alias)
    places = [place for place in (folder, folder / "data") if place.is_dir()]
    for alias in aliases:
        for suffix in SUFFIXES:
            for place in places:
                files = _named(place, alias, suffix)
                if files:
                    return files
    for place in (folder / alias for alias in aliases):
        for suffix in SUFFIXES:
            files = sorted(_visible(place, suffix))
            if files:
                return files
    return []


def saved_files(folder: Path) -> list[Path]:
    """The Arrow files of one table that ``save_to_disk`` wrote.

    Args:
        folder: The folder with ``state.json``.

    Returns:
        The files in order.

    Raises:
        ValueError: If ``state.json`` is broken, or names files outside the folder.
        FileNotFoundError: If files are missing.
    """
    state = folder / "state.json"
    try:
        entries = json.loads(state.read_bytes())["_data_files"]
        names = [str(entry["filename"]) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"cannot read '{state}': it should list '_data_files'") from error
    for name in names:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ValueError(f"'{state}' names '{name}', which lies outside its folder")
    _refuse_missing([folder / name for name in names])
    if not names:
        raise ValueError(f"'{state}' lists no files")
    return [folder / name for name in names]


def _is_saved(folder: Path) -> bool:
    """Whether ``save_to_disk`` of the ``datasets`` library wrote the folder."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def _holds_tables(folder: Path) -> bool:
    """Whether a folder is a saved split, or holds tables and no folders."""
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    tables = any(entry.suffix.lower() in SUFFIXES for entry in entries)
    return _is_saved(folder) or (tables and not any(entry.is_dir() for entry in entries))


def _named(place: Path, alias: str, suffix: str) -> list[Path]:
    """Files of a split in one folder and of one kind, its parts in order and complete."""
    pattern = re.compile(_PREFIX + re.escape(alias) + _PART, re.IGNORECASE)
    matches = [(pattern.fullmatch(path.stem), path) for path in sorted(_visible(place, suffix))]
    found = [(match, path) for match, path in matches if match]
    bare = [(match, path) for match, path in found if match["prefix"] is None]
    chosen = bare or found
    if not chosen:
        return []
    whole = [path for match, path in chosen if match["of"] is None]
    if whole:
        return whole[:1]
    match, first = chosen[0]
    here = f"-{match['at']}-of-{match['of']}{first.suffix}"
    stem = first.name.removesuffix(here)
    names = [f"{stem}-{at:05}-of-{match['of']}{first.suffix}" for at in range(int(match["of"]))]
    files = [first.with_name(name) for name in names]
    _refuse_missing(files)
    return files


def _visible(place: Path, suffix: str) -> Iterator[Path]:
    """Files of one kind in a folder, without hidden ones."""
    for path in place.iterdir() if place.is_dir() else ():
        if path.suffix.lower() == suffix and not path.name.startswith(".") and path.is_file():
            yield path


def _refuse_missing(files: Sequence[Path]) -> None:
    """Name the parts that are not there."""
    missing = [path for path in files if not path.is_file()]
    if missing:
        names = ", ".join(path.name for path in missing[:10])
        raise FileNotFoundError(
            f"{len(missing)} of {len(files)} files are missing in '{missing[0].parent}': {names}"
        )
