"""FGVC-5 from the datasets' own annotation files, for whoever lacks VPT's split files."""

from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from fewshot_data.folder import read_parts
from fewshot_data.listed import read_lines, safe_path
from fewshot_data.matlab import read_mat
from fewshot_data.registry import DatasetSpec

__all__ = ["MARKS", "Listing", "read_official"]

Entries = list[tuple[str, int]]

MARKS = {
    "cub": ("train_test_split.txt", "train"),
    "dogs": ("train_list.mat", "train"),
    "flowers": ("setid.mat", "train"),
    "cars": ("cars_annos.mat", "devkit/cars_train_annos.mat", "train"),
}
"""By form of the release, what proves that a folder is one, beside SSF's class folders."""


@dataclass(frozen=True)
class Listing:
    """The images of each split with the class ids of the files, before ids become labels."""

    base: Path
    parts: dict[str, Entries]
    origin: str
    published: bool = False
    ids: set[int] = field(default_factory=set)
    given: dict[int, str] = field(default_factory=dict)


def read_official(spec: DatasetSpec, folder: Path, style: str, train: str, seed: int) -> Listing:
    """Read the official split and put a tenth of its training images aside for validation.

    Args:
        spec: The dataset, for messages.
        folder: Its folder.
        style: The form of the release, a key of `MARKS`.
        train: ``"train"``, or ``"train+val"`` to put nothing aside.
        seed: Draws the validation images, over the dataset and not per class, as VPT did.

    Returns:
        The splits, marked as not the published ones.

    Raises:
        FileNotFoundError: If an annotation file is missing.
        ValueError: If one is broken, or a reduced training set was asked for.

    Examples:
        >>> from fewshot_data import load_spec
        >>> read_official(load_spec("fgvc-cub"), Path("."), "cub", "train_0.1", 0)
        Traceback (most recent call last):
        ValueError: option 'train' is 'train_0.1': without VPT's JSON files give train or train+val
    """
    if train not in ("train", "train+val"):
        raise ValueError(
            f"option 'train' is '{train}': without VPT's JSON files give train or train+val"
        )
    listing = READERS[style](folder) if _has_annotations(folder, style) else _class_folders(folder)
    kept, aside = listing.parts["train"], listing.parts["val"]
    if not aside:
        kept, aside = _tenth_aside(kept, seed)
    how = "" if listing.parts["val"] else " with a seeded tenth put aside for validation"
    parts = {"train": kept, "val": aside, "test": listing.parts["test"]}
    if train == "train+val":
        parts, how = (
            {**parts, "train": listing.parts["train"] + listing.parts["val"], "val": []},
            "",
        )
    origin = f"official files in '{folder}'{how}; not the VPT split, whose JSON files are absent"
    return Listing(listing.base, parts, origin, given=listing.given)


def _has_annotations(folder: Path, style: str) -> bool:
    """Whether the release's own files are there, and not only class folders."""
    return any((folder / mark).is_file() for mark in MARKS[style])


def _tenth_aside(entries: Entries, seed: int) -> tuple[Entries, Entries]:
    """A tenth, rounded up as in VPT's sizes, drawn over the whole dataset."""
    rng = Random(f"fewshot-data fgvc validation seed {seed}")
    aside = set(rng.sample(range(len(entries)), -(-len(entries) // 10)))
    kept = [entry for number, entry in enumerate(entries) if number not in aside]
    return kept, [entry for number, entry in enumerate(entries) if number in aside]


def _cub(folder: Path) -> Listing:
    """CUB-200-2011 and NABirds: text files joined by image id; images without a class are left."""
    paths, classes = _table(folder / "images.txt"), _table(folder / "image_class_labels.txt")
    is_train = _table(folder / "train_test_split.txt")
    parts: dict[str, Entries] = {"train": [], "val": [], "test": []}
    for key, number in classes.items():
        where = f"'{folder}', image id {key}"
        if key not in paths or is_train.get(key) not in ("0", "1"):
            raise ValueError(f"{where}: absent from images.txt or train_test_split.txt")
        split = "train" if is_train[key] == "1" else "test"
        parts[split].append((safe_path(paths[key], where), _number(number, where)))
    names = _table(folder / "classes.txt") if (folder / "classes.txt").is_file() else {}
    given = {
        int(key): _bird(name) for key, name in names.items() if key.isascii() and key.isdigit()
    }
    return Listing(folder / "images", parts, "", given=given)


def _bird(name: str) -> str:
    """``001.Black_footed_Albatross`` without its number; NABirds' names have none."""
    head, dot, tail = name.partition(".")
    return tail if dot and head.isdigit() and tail else name


def _dogs(folder: Path) -> Listing:
    """Stanford Dogs: one list per split with 1-based labels."""
    parts: dict[str, Entries] = {"val": []}
    for split in ("train", "test"):
        path = folder / f"{split}_list.mat"
        values = read_mat(path, ("file_list", "labels"))
        parts[split] = _zipped(path, values["file_list"], values["labels"])
    return Listing(folder / "Images", parts, "")


def _flowers(folder: Path) -> Listing:
    """Oxford Flowers: image numbers of each split, 1-based labels of all images."""
    labels = read_mat(folder / "imagelabels.mat", ("labels",))["labels"]
    ids = read_mat(folder / "setid.mat", ("trnid", "valid", "tstid"))
    parts: dict[str, Entries] = {}
    for split, key in (("train", "trnid"), ("val", "valid"), ("test", "tstid")):
        numbers = [_number(value, f"'{folder / 'setid.mat'}', {key}") for value in ids[key]]
        if not all(1 <= number <= len(labels) for number in numbers):
            raise ValueError(f"'{folder / 'setid.mat'}': {key} exceeds the {len(labels)} labels")
        files = [f"jpg/image_{number:05d}.jpg" for number in numbers]
        chosen = [labels[number - 1] for number in numbers]
        parts[split] = _zipped(folder / "imagelabels.mat", files, chosen)
    return Listing(folder, parts, "")


def _cars(folder: Path) -> Listing:
    """Stanford Cars in either package: car_ims with one file, or cars_train with the devkit."""
    whole = folder / "cars_annos.mat"
    if whole.is_file():
        rows = read_mat(whole, ("annotations",), ("relative_im_path", "class", "test"))
        chosen = {"train": [], "test": []}
        for path, number, is_test in zip(*rows["annotations"], strict=True):
            chosen["test" if is_test else "train"].append((path, number))
        parts = {split: _zipped(whole, *_columns(part)) for split, part in chosen.items()}
        return Listing(folder, {**parts, "val": []}, "")
    parts = {"val": []}
    files = ("devkit/cars_train_annos.mat", "cars_test_annos_withlabels.mat")
    for split, name in zip(("train", "test"), files, strict=True):
        rows = read_mat(folder / name, ("annotations",), ("fname", "class"))
        files_of, numbers = rows["annotations"]
        parts[split] = _zipped(
            folder / name, [f"cars_{split}/{Path(str(f)).name}" for f in files_of], numbers
        )
    return Listing(folder, parts, "")


def _class_folders(folder: Path) -> Listing:
    """SSF's layout: train/ and val/ or test/ with one folder per class."""
    parts = read_parts(folder)
    if not parts:
        raise FileNotFoundError(
            f"'{folder}' has neither train.json, val.json and test.json, nor the annotation files "
            "of the official release, nor train/ and val/ with one folder per class"
        )
    names = sorted({name for part in parts.values() for name in part.names})
    number = {name: position for position, name in enumerate(names)}
    entries = {
        split: [
            (path.relative_to(folder).as_posix(), number[name])
            for path, name in zip(part.paths, part.names, strict=True)
        ]
        for split, part in parts.items()
    }
    if "test" not in entries:  # SSF measures on val/
        entries["test"] = entries.pop("val")
    given = dict(enumerate(names))
    return Listing(folder, {"val": [], **entries}, "", given=given)


def _table(path: Path) -> dict[str, str]:
    """Lines of ``<id> <rest>`` by id."""
    rows: dict[str, str] = {}
    for line in read_lines(path):
        key, _, rest = line.partition(" ")
        if not rest or key in rows:
            raise ValueError(f"'{path}': line {line[:80]!r} is not '<id> <value>' with a new id")
        rows[key] = rest.strip()
    return rows


def _zipped(path: Path, files: Any, numbers: Any) -> Entries:
    """Files with their class numbers."""
    if len(files) != len(numbers):
        raise ValueError(f"'{path}' has {len(files)} files but {len(numbers)} labels")
    where = f"'{path}'"
    return [
        (safe_path(str(file), where), _number(number, where))
        for file, number in zip(files, numbers, strict=True)
    ]


def _columns(rows: list[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
    """Pairs as two lists."""
    return [first for first, _ in rows], [second for _, second in rows]


def _number(value: Any, where: str) -> int:
    """A class number or image number."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{where}: {str(value)[:40]!r} is not a whole number") from error


READERS = {"cub": _cub, "dogs": _dogs, "flowers": _flowers, "cars": _cars}
