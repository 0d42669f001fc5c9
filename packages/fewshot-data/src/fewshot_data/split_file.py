"""CoOp's split files: one JSON object with the lists train, val and test of [path, label, name]."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewshot_data.listed import read_table, safe_path

__all__ = ["Item", "Items", "check_items", "load_split", "parse_split", "read_split_file"]

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Item:
    """One image of a list.

    Args:
        path: Below the image folder, with ``/``: what identifies it wherever the data lies.
        label: 0 to C-1.
        name: The class as the file spells it; changed for prompts only.
    """

    path: str
    label: int
    name: str


Items = dict[str, list[Item]]
"""The images of each split, in the order of the file, which the draws depend on."""


def read_split_file(path: Path) -> Items:
    """Read and check a ``split_zhou_*.json``, or a file of the same form.

    Args:
        path: The file.

    Returns:
        The images of each split.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is no such file: not JSON, a list missing, an entry that is not a path, a
            label and a name, a path that leaves the folder or occurs twice, labels with gaps, or a
            label with two names.

    Examples:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "split.json"
        >>> _ = file.write_text('{"train": [["a/1.jpg", 0, "owl"]], "val": [], "test": []}')
        >>> read_split_file(file)["train"]
        [Item(path='a/1.jpg', label=0, name='owl')]

    Reference:
        ``OxfordPets.read_split`` of KaiyangZhou/CoOp.
    """
    return parse_split(load_split(path), path)


def load_split(path: Path) -> dict[str, Any]:
    """Read the JSON object of a split file, and look no further.

    Args:
        path: The file.

    Returns:
        The object.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is no JSON object.

    Examples:
        >>> load_split(Path("absent.json"))
        Traceback (most recent call last):
        FileNotFoundError: no split file 'absent.json'
    """
    if not path.is_file():
        raise FileNotFoundError(f"no split file '{path}'")
    table = read_table(path)
    if not isinstance(table, dict):
        raise ValueError(f"'{path}' must be one JSON object with {', '.join(SPLITS)}")
    return table


def parse_split(
    table: Mapping[str, Any],
    path: Path,
    splits: Sequence[str] = SPLITS,
    *,
    repeats: bool = False,
    gaps: bool = False,
) -> Items:
    """Check the lists of a split file.

    Args:
        table: What `load_split` gave.
        path: The file, for messages.
        splits: The lists that it must have; others are left alone.
        repeats: Let an image occur twice, as it does where a small class was filled up.
        gaps: Let labels be missing, as they are where only some classes were drawn.

    Returns:
        The images of each split.

    Raises:
        ValueError: If a list is missing, or for what `check_items` refuses.

    Examples:
        >>> parse_split({"train": [["a.jpg", 1, "owl"]]}, Path("x"), ["train"], gaps=True)
        {'train': [Item(path='a.jpg', label=1, name='owl')]}
    """
    lacking = [split for split in splits if not isinstance(table.get(split), list)]
    if lacking:
        raise ValueError(f"'{path}' has no list '{lacking[0]}': it is no split file")
    items = {split: _items(table[split], f"'{path}', {split}") for split in splits}
    check_items(items, str(path), repeats=repeats, gaps=gaps)
    return items


def check_items(
    items: Mapping[str, Sequence[Item]], where: str, *, repeats: bool = False, gaps: bool = False
) -> tuple[str, ...]:
    """Check that labels are 0 to C-1, one name per label, and no image in two places.

    Args:
        items: The images of each split.
        where: The file, for messages.
        repeats: Let an image occur twice.
        gaps: Let labels be missing.

    Returns:
        The class names in label order.

    Raises:
        ValueError: If not.

    Examples:
        >>> check_items({"train": [Item("1.jpg", 0, "owl"), Item("2.jpg", 1, "crow")]}, "x")
        ('owl', 'crow')
    """
    names: dict[int, str] = {}
    seen: set[str] = set()
    for part in items.values():
        for item in part:
            if item.path in seen and not repeats:
                raise ValueError(f"'{where}': the image '{item.path}' is listed twice")
            seen.add(item.path)
            if names.setdefault(item.label, item.name) != item.name:
                raise ValueError(
                    f"'{where}': label {item.label} has two names, '{names[item.label]}' and "
                    f"'{item.name}': the file is damaged, or mixes two"
                )
    if not names:
        raise ValueError(f"'{where}' lists no image")
    absent = sorted(set(range(max(names) + 1)) - names.keys())
    if absent and not gaps:
        raise ValueError(
            f"'{where}': labels must be 0 to {max(names)} without gaps, but {absent[0]} is missing"
        )
    return tuple(names[label] for label in sorted(names))


def _items(rows: list[Any], where: str) -> list[Item]:
    """The entries of one list."""
    return [_item(row, f"{where}, entry {number}") for number, row in enumerate(rows, 1)]


def _item(row: Any, where: str) -> Item:
    """One entry."""
    if not isinstance(row, list) or len(row) != 3:
        raise ValueError(f"{where}: {str(row)[:60]!r} is not [path, label, name]")
    path, label, name = row
    if not isinstance(path, str) or not isinstance(name, str):
        raise ValueError(f"{where}: path and name must be strings, got {str(row)[:60]!r}")
    if type(label) is not int or not 0 <= label < 10**6:
        raise ValueError(f"{where}: the label is {str(label)[:20]!r}, not a number from 0")
    return Item(safe_path(path, where), label, name)
