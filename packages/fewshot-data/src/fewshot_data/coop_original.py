"""Images and splits from the files that each dataset was released with, before CoOp split them."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewshot_data.coop_cut import halves, labelled, with_val
from fewshot_data.images import find_images, visible
from fewshot_data.listed import read_lines, read_table, safe_path
from fewshot_data.matlab import read_mat
from fewshot_data.registry import DatasetSpec
from fewshot_data.split_file import Item, Items

__all__ = ["ORIGINALS", "Original", "read_original"]


@dataclass(frozen=True)
class Original:
    """The form of a release.

    Args:
        marks: Paths any of which proves that a folder has this form.
        read: From the spec, the folder, the places of images and a seed to the images of each
            split.
        published: Whether these are the splits that published numbers were made on.
        told: What the result says of itself.
    """

    marks: tuple[str, ...]
    read: Callable[[DatasetSpec, Path, list[str], int], Items]
    published: bool = False
    told: str = "is not the published split: that needs the split file"


def read_original(
    spec: DatasetSpec, folder: Path, options: dict[str, Any], seed: int
) -> tuple[Items, str, bool]:
    """Read a dataset without its split file.

    Args:
        spec: The dataset.
        folder: Its folder.
        options: Of the source.
        seed: Cuts what the release does not cut.

    Returns:
        The images of each split, a sentence on where they come from, whether they are published.

    Raises:
        FileNotFoundError: If the files of the release are not there either.
        ValueError: If one of them is not what it should be.
    """
    form = ORIGINALS[options["style"]]
    items = form.read(spec, folder, options["images"], seed)
    origin = f"the original files in '{folder}', which {form.told}"
    if not form.published:
        origin += f" {options['split']} (seed {seed})"
    return items, origin, form.published


def _class_folders(spec: DatasetSpec, folder: Path, places: list[str], seed: int) -> Items:
    """One folder per class; labels follow the ASCII order of the folders that count."""
    without = set(spec.options.get("without", ()))
    for place in (folder / name for name in places):
        inside = visible(place) if place.is_dir() else []
        classes = [entry for entry in inside if entry.is_dir() and entry.name not in without]
        pairs = [(f"{c.name}/{p.relative_to(c).as_posix()}", c.name)
                 for c in classes for p in find_images(c)]  # fmt: skip
        if pairs:
            named = [Item(i.path, i.label, spec.renames.get(i.name, i.name))
                     for i in labelled(pairs)]  # fmt: skip
            return halves(named, seed)
    raise FileNotFoundError(
        f"dataset '{spec.name}': no class folders in {', '.join(places)} below '{folder}', and no "
        f"split file {spec.options.get('split', '')}"
    )


def _pets(spec: DatasetSpec, folder: Path, places: list[str], seed: int) -> Items:
    """Lines `<stem> <class id> <species> <breed>` of trainval.txt and test.txt."""
    parts = []
    for name in ("trainval", "test"):
        path, items = folder / "annotations" / f"{name}.txt", []
        for number, line in enumerate(read_lines(path), 1):
            where, fields = f"'{path}', line {number}", line.split(" ")
            if line.startswith("#"):
                continue
            if len(fields) < 2 or not fields[1].isdigit() or int(fields[1]) < 1:
                raise ValueError(f"{where}: {line[:60]!r} is not '<image> <class id> ...'")
            stem = safe_path(fields[0], where)
            items.append(Item(f"{stem}.jpg", int(fields[1]) - 1, stem.rpartition("_")[0].lower()))
        parts.append(items)
    return with_val(parts[0], parts[1], seed)


def _cars(spec: DatasetSpec, folder: Path, places: list[str], seed: int) -> Items:
    """The development kit; the year of a name moves to its front."""
    kit = folder / "devkit"
    names = [_year_first(str(name)) for name in read_mat(kit / "cars_meta.mat", ("class_names",))
             ["class_names"]]  # fmt: skip
    tests = folder / "cars_test_annos_withlabels.mat"
    tests = tests if tests.is_file() else kit / tests.name
    parts = []
    for place, path in (("cars_train", kit / "cars_train_annos.mat"), ("cars_test", tests)):
        files, classes = read_mat(path, ("annotations",), ("fname", "class"))["annotations"]
        parts.append([
            Item(f"{place}/{safe_path(str(file), str(path))}", *_named(number, names, path))
            for file, number in zip(files, classes, strict=True)
        ])  # fmt: skip
    return with_val(parts[0], parts[1], seed)


def _flowers(spec: DatasetSpec, folder: Path, places: list[str], seed: int) -> Items:
    """Labels of all images in order, 1-based; names from cat_to_name.json where it is there."""
    path = folder / "imagelabels.mat"
    numbers = [int(number) for number in read_mat(path, ("labels",))["labels"]]
    given = folder / "cat_to_name.json"
    table = _category_names(given) if given.is_file() else {}
    items = [
        Item(f"image_{n:05d}.jpg", number - 1, str(table.get(str(number), f"class {number}")))
        for n, number in enumerate(numbers, 1)
    ]
    return halves(items, seed)


def _sun(spec: DatasetSpec, folder: Path, places: list[str], seed: int) -> Items:
    """ClassName.txt in label order, and the first partition of Xiao et al."""
    names = folder / "ClassName.txt"
    labels = {
        safe_path(line.lstrip("/"), f"'{names}'"): n for n, line in enumerate(read_lines(names))
    }
    if not (folder / "Training_01.txt").is_file():
        return halves(_whole_sun(folder, places, labels), seed)
    parts = []
    for name in ("Training_01.txt", "Testing_01.txt"):
        path, items = folder / name, []
        for number, line in enumerate(read_lines(path), 1):
            image = safe_path(line.lstrip("/"), f"'{path}', line {number}")
            place = image.rpartition("/")[0]
            if place not in labels:
                raise ValueError(f"'{path}', line {number}: no class '/{place}' in ClassName.txt")
            items.append(Item(image, labels[place], _scene(place)))
        parts.append(items)
    return with_val(parts[0], parts[1], seed)


def _whole_sun(folder: Path, places: list[str], labels: dict[str, int]) -> list[Item]:
    """All images of every class: what torchvision downloads, which has no partitions."""
    for images in (folder / place for place in places):
        items = [
            Item(path.relative_to(images).as_posix(), label, _scene(place))
            for place, label in labels.items()
            for path in find_images(images / place)
        ]
        if items:
            return items
    raise FileNotFoundError(
        f"neither '{folder / 'Training_01.txt'}' nor images of the classes of ClassName.txt are "
        "there; the split file split_zhou_SUN397.json would do without either"
    )


def _scene(place: str) -> str:
    """A class name of a folder: ``a/apartment_building/outdoor`` without letter, turned round."""
    return " ".join(reversed(place.split("/")[1:]))


def _ucf(spec: DatasetSpec, folder: Path, places: list[str], seed: int) -> Items:
    """Lists of videos; an image is the middle frame of one, in a folder with split words."""
    lists = folder / "ucfTrainTestlist"
    rows = [line.split(" ") for line in read_lines(lists / "classInd.txt")]
    labels = {row[-1]: int(row[0]) - 1 for row in rows if len(row) == 2 and row[0].isdigit()}
    parts = []
    for name in ("trainlist01.txt", "testlist01.txt"):
        path, items = lists / name, []
        for number, line in enumerate(read_lines(path), 1):
            listed = safe_path(line.split(" ")[0], f"'{path}', line {number}")
            action, _, video = listed.partition("/")
            if action not in labels:
                raise ValueError(f"'{path}', line {number}: no class '{action}' in classInd.txt")
            words = "_".join(re.findall(r"[A-Z][^A-Z]*", action))
            items.append(Item(f"{words}/{Path(video).stem}.jpg", labels[action], words))
        parts.append(items)
    return with_val(parts[0], parts[1], seed)


def _aircraft(spec: DatasetSpec, folder: Path, places: list[str], seed: int) -> Items:
    """The official lists; an id is text, a variant may contain spaces and slashes."""
    labels = {name: n for n, name in enumerate(read_lines(folder / "variants.txt"))}
    parts: Items = {}
    for split in ("train", "val", "test"):
        path, parts[split] = folder / f"images_variant_{split}.txt", []
        for number, line in enumerate(read_lines(path), 1):
            image, _, variant = line.partition(" ")
            if variant not in labels:
                raise ValueError(f"'{path}', line {number}: no variant '{variant}' in variants.txt")
            image = safe_path(image, f"'{path}', line {number}")
            parts[split].append(Item(f"{image}.jpg", labels[variant], variant))
    return parts


def _category_names(path: Path) -> dict[str, Any]:
    """cat_to_name.json: from the class number as text to its name."""
    table = read_table(path)
    if not isinstance(table, dict):
        raise ValueError(f"'{path}' must be one JSON object from class number to name")
    return table


def _year_first(name: str) -> str:
    """`Audi TTS Coupe 2012` as CoOp has it: `2012 Audi TTS Coupe`."""
    words = name.split(" ")
    return " ".join([words[-1], *words[:-1]])


def _named(number: Any, names: Sequence[str], path: Path) -> tuple[int, str]:
    """Label and name of a 1-based class number."""
    if not 1 <= int(number) <= len(names):
        raise ValueError(f"'{path}': class {number} is not among the {len(names)} of cars_meta.mat")
    return int(number) - 1, names[int(number) - 1]


ORIGINALS: dict[str, Original] = {
    "class-folders": Original((), _class_folders),
    "pets": Original(("annotations/trainval.txt",), _pets),
    "cars": Original(("devkit/cars_meta.mat",), _cars),
    "flowers": Original(("imagelabels.mat",), _flowers),
    "sun": Original(("ClassName.txt",), _sun),
    "ucf": Original(("ucfTrainTestlist/classInd.txt",), _ucf),
    "aircraft": Original(
        ("images_variant_train.txt",), _aircraft, published=True,
        told="hold the official split, which all harnesses use",
    ),
}  # fmt: skip
"""Name of a form to what reads it."""
