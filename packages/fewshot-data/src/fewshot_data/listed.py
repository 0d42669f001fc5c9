"""Datasets given as lists of image paths and labels: paths checked, absent files told together."""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

__all__ = [
    *("absent", "class_names", "read_lines", "read_list", "read_table"),
    *("require_files", "safe_path"),
]

SHOWN = 10
NUMBER = re.compile(r"\d{1,9}", re.ASCII)


def safe_path(text: str, where: str) -> str:
    r"""Normalise a path of a list file and refuse one that leaves the dataset's folder.

    Args:
        text: The path as written; ``\`` is read as ``/``.
        where: The file and line it comes from, for messages.

    Returns:
        A relative path with ``/``.

    Raises:
        ValueError: If it is empty, absolute, or contains ``..``.

    Examples:
        >>> safe_path("images\\a.jpg", "test.txt")
        'images/a.jpg'
    """
    path = text.replace("\\", "/")
    parts = path.split("/")
    if not path.strip("/. ") or "\0" in path:
        raise ValueError(f"{where}: {text!r} is no path: name a file below the dataset's folder")
    if path.startswith("/") or re.match(r"[A-Za-z]:", path) or ".." in parts:
        raise ValueError(
            f"{where}: the path {text!r} leaves the dataset's folder: "
            "write it relative to that folder, without '..'"
        )
    return "/".join(part for part in parts if part not in ("", "."))


def read_lines(path: Path) -> list[str]:
    """Read the lines of a text file; CRLF, a byte-order mark and blank lines do not matter.

    Args:
        path: The file.

    Returns:
        Its lines without white space at the end.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is not UTF-8 text.

    Examples:
        >>> read_lines(Path("absent.txt"))
        Traceback (most recent call last):
        FileNotFoundError: no file 'absent.txt'
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file '{path}'")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"'{path}' is not UTF-8 text ({error}): restore the file") from error
    return [line.rstrip() for line in text.split("\n") if line.strip()]


def read_list(path: Path) -> list[tuple[str, int]]:
    r"""Read ``<path> <label>`` lines; the last space separates, because paths may contain spaces.

    Args:
        path: The list file.

    Returns:
        Path and label of each line, in order, repeated lines included.

    Raises:
        FileNotFoundError: If the file is not there.
        ValueError: If it is empty, or a line is no such pair; the line is named.

    Examples:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "test.txt"
        >>> _ = file.write_bytes(b"images/a b.jpg 3\r\n")
        >>> read_list(file)
        [('images/a b.jpg', 3)]
    """
    entries = []
    for number, line in enumerate(read_lines(path), start=1):
        where = f"'{path}', entry {number}"
        name, _, label = line.rpartition(" ")
        if not name.strip() or not NUMBER.fullmatch(label):
            raise ValueError(
                f"{where}: {line[:80]!r} is not '<path> <label>' with a label such as 0 or 17"
            )
        entries.append((safe_path(name.strip(), where), int(label)))
    if not entries:
        raise ValueError(f"'{path}' is empty: one line per image, '<path> <label>', belongs there")
    return entries


def read_table(path: Path, pairs: Callable[[list[tuple[str, Any]]], Any] = dict) -> Any:
    """Parse a JSON file.

    Args:
        path: The file.
        pairs: Makes an object from its members in order.

    Returns:
        What it holds.

    Raises:
        ValueError: If it is not JSON.

    Examples:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.json"
        >>> _ = file.write_text('{"a": 1}')
        >>> read_table(file, list)
        [('a', 1)]
    """
    try:
        return json.loads(path.read_bytes(), object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"'{path}' is not valid JSON ({error}): restore the file") from error


def absent(paths: Iterable[Path]) -> list[Path]:
    """Which files are not there, with one look into every folder instead of one per file.

    Args:
        paths: The files.

    Returns:
        Those that do not exist, in the order given, each once.

    Examples:
        >>> absent([Path("no") / "such.jpg", Path("no") / "such.jpg"])
        [PosixPath('no/such.jpg')]
    """
    listed: dict[str, set[str]] = {}
    missing: dict[str, Path] = {}
    for path in paths:  # strings, because a hundred thousand paths are compared
        folder, name = os.path.split(path)
        if folder not in listed:
            listed[folder] = _names(folder or ".")
        if name in listed[folder]:
            continue
        # A file system that ignores case knows names that the listing spells otherwise.
        if not listed[folder] or not os.path.exists(path):  # noqa: PTH110  # never raises
            missing[str(path)] = path
    return list(missing.values())


def require_files(paths: Iterable[Path], *, owner: str, fix: str) -> None:
    """Refuse a dataset of which listed files are missing, and name them together.

    Args:
        paths: The files.
        owner: Whose they are, such as ``"dataset 'vtab-dtd'"``.
        fix: What to do about it.

    Raises:
        FileNotFoundError: With the count of missing files and the first ten.

    Examples:
        >>> require_files([Path("no.jpg")], owner="dataset 'toy'", fix="copy it")
        Traceback (most recent call last):
        FileNotFoundError: dataset 'toy': 1 of 1 listed files are missing: no.jpg; copy it
    """
    paths = list(paths)
    missing = absent(paths)
    if missing:
        every = len({str(path) for path in paths})
        count = f"{len(missing)} of {every} listed files are missing"
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        shown = ", ".join(str(path) for path in missing[:SHOWN])
        raise FileNotFoundError(f"{owner}: {count}: {shown}{more}; {fix}")


def class_names(
    names: Sequence[str], labels: Sequence[int], ids: Sequence[int], given: Mapping[int, str]
) -> tuple[str, ...]:
    """Class names from where the lists leave them: names given, else class folders, else ids.

    Folders name the classes only if every class has one folder and no two classes share one.
    ``001.Black_footed_Albatross`` and ``n02085620-Chihuahua`` lose what stands before the name.

    Args:
        names: Path of each image below the image folder.
        labels: Its label, 0 to C-1.
        ids: The number that each label has in the files.
        given: Names by such a number, as far as known.

    Returns:
        One name per label, all different.

    Examples:
        >>> class_names(["001.Owl/1.jpg", "002.Crow/1.jpg"], [0, 1], [1, 2], {})
        ('Owl', 'Crow')
        >>> class_names(["1.jpg", "2.jpg"], [0, 1], [7, 9], {7: "seven"})
        ('seven', 'class 9')
    """
    folders: dict[int, set[str]] = {}
    for name, label in zip(names, labels, strict=True):
        folders.setdefault(label, set()).add(PurePosixPath(name).parent.name)
    single = {label: next(iter(found)) for label, found in folders.items() if len(found) == 1}
    usable = len(set(single.values())) == len(folders) and "" not in single.values()
    found = {label: _plain(folder) for label, folder in single.items()} if usable else {}
    usable = len(set(found.values())) == len(found)
    fallback = {label: f"class {number}" for label, number in enumerate(ids)}
    chosen = {**fallback, **(found if usable and not given else {})}
    chosen.update({n: given[number] for n, number in enumerate(ids) if number in given})
    return tuple(chosen[label] for label in range(len(ids)))


def _plain(folder: str) -> str:
    """A class folder's name without the number or WordNet id in front."""
    return re.sub(r"^(\d+\.|n\d{8}-)(?=.)", "", folder)


def _names(folder: str) -> set[str]:
    """Names in a folder; none if there is no such folder."""
    try:
        return set(os.listdir(folder))  # noqa: PTH208  # names only: ten thousands of files
    except (OSError, ValueError):
        return set()
