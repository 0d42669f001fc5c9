"""Tiny copies of CLIP's few-shot datasets, in CoOp's folders, SO's, or with the release's files."""

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from fewshot_data.made.pictures import write_picture
from fewshot_data.registry import DatasetSpec

__all__ = ["LAYOUTS", "make"]

LAYOUTS = ("coop", "so", "original")
SIZES = {"train": (6, 5, 3, 6), "val": (3, 4, 2, 3), "test": (2, 2, 2, 2)}
"""Images of each of the four classes, by split."""
NOT_BY_LABEL = ("cars", "flowers")

Row = tuple[str, int, str]
Rows = dict[str, list[Row]]


def make(spec: DatasetSpec, root: Path, *, layout: str, rng: Random) -> Path:
    """Write four classes.

    Args:
        spec: A dataset of source ``coop``.
        root: Folder of all data.
        layout: ``"coop"`` and ``"so"`` differ in the folder's name; ``"original"`` has the files
            of the release instead of the split file.
        rng: Of the pictures and of the order of lists that are not sorted.

    Returns:
        The dataset's folder.

    Examples:
        >>> import tempfile
        >>> from fewshot_data import load_spec
        >>> folder = make(load_spec("dtd"), Path(tempfile.mkdtemp()), layout="so", rng=Random(0))
        >>> sorted(path.name for path in folder.iterdir())
        ['images', 'split_zhou_DescribableTextures.json']
    """
    folder = root / spec.folders[min(layout == "so", len(spec.folders) - 1)]
    style, place = spec.options["style"], spec.options["images"][0]
    rows = _rows(style)
    if style in NOT_BY_LABEL:
        rng.shuffle(rows["train"])
    for part in rows.values():
        for name, label, _ in part:
            write_picture(folder / place / name, label, rng)
    for number, stray in enumerate(spec.options.get("without", ())):
        write_picture(folder / place / stray / f"image_{number:04d}.jpg", number, rng)
        (folder / place / stray / "tmp").write_text("")
    if style in WRITERS and (layout == "original" or style == "aircraft"):
        WRITERS[style](folder, rows)
    elif layout != "original":
        (folder / spec.options["split"]).write_text(json.dumps(rows, indent=4))
    return folder


def _rows(style: str) -> Rows:
    """Path, label and name of every image; numbers run through all splits."""
    path, names = FORMS.get(style, FORMS["class-folders"])
    rows: Rows = {}
    number = 0
    for split, sizes in SIZES.items():
        rows[split] = []
        for label, size in enumerate(sizes):
            for _ in range(size):
                number += 1
                rows[split].append((path(split, label, number), label, names[label]))
    return rows


FOLDERS = ("AnnualCrop", "Faces", "airplanes", "yin_yang")
BREEDS = ("Abyssinian", "american_bulldog", "Bengal", "pug")
CARS = ("2012 Audi TTS Coupe", "2012 Ram C/V Cargo Van Minivan", "2007 BMW X5 SUV", "1998 Audi 100")
FLOWERS = ("pink primrose", "globe thistle", "canterbury bells", "sweet pea")
SUN = ("a/abbey", "a/apartment_building/outdoor", "m/market/indoor", "y/yard")
SCENES = ("abbey", "outdoor apartment_building", "indoor market", "yard")
UCF = ("Apply_Eye_Makeup", "Handstand_Pushups", "Tai_Chi", "Yo_Yo")
VIDEOS = ("ApplyEyeMakeup", "HandStandPushups", "TaiChi", "YoYo")
VARIANTS = ("707-320", "F/A-18", "F-16A/B", "Cessna 172")

Naming = Callable[[str, int, int], str]
FORMS: dict[str, tuple[Naming, tuple[str, ...]]] = {
    "class-folders": (lambda split, label, n: f"{FOLDERS[label]}/image_{n:04d}.jpg", FOLDERS),
    "pets": (
        lambda split, label, n: f"{BREEDS[label]}_{n}.jpg",
        tuple(breed.lower() for breed in BREEDS),
    ),
    "cars": (
        lambda split, label, n: f"cars_{'test' if split == 'test' else 'train'}/{n:05d}.jpg",
        CARS,
    ),
    "flowers": (lambda split, label, n: f"image_{n:05d}.jpg", FLOWERS),
    "sun": (lambda split, label, n: f"{SUN[label]}/sun_{n:04d}abc.jpg", SCENES),
    "ucf": (lambda split, label, n: f"{UCF[label]}/v_{VIDEOS[label]}_g{n:02d}_c01.jpg", UCF),
    "aircraft": (lambda split, label, n: f"{34308 + n:07d}.jpg", VARIANTS),
}
"""Form of a release to how it names an image of a split and a label, and to its class names."""


def _pets(folder: Path, rows: Rows) -> None:
    """trainval.txt and test.txt with 1-based class ids."""
    for name, part in (("trainval", rows["train"] + rows["val"]), ("test", rows["test"])):
        lines = [f"{Path(image).stem} {label + 1} 1 1\n" for image, label, _ in part]
        _write(folder / "annotations" / f"{name}.txt", lines)


def _cars(folder: Path, rows: Rows) -> None:
    """The development kit: struct arrays with 1-based classes, the year at the end of a name."""
    names = [" ".join([*name.split(" ")[1:], name.split(" ")[0]]) for name in CARS]
    _save(folder / "devkit" / "cars_meta.mat", class_names=_cells(names))
    for place, part in (
        ("devkit/cars_train_annos.mat", rows["train"] + rows["val"]),
        ("cars_test_annos_withlabels.mat", rows["test"]),
    ):
        _save(folder / place, annotations=_structs(part))


def _flowers(folder: Path, rows: Rows) -> None:
    """Labels of all images in the order of their numbers, and the names of the classes."""
    labels = {image: label + 1 for part in rows.values() for image, label, _ in part}
    _save(folder / "imagelabels.mat", labels=[[labels[image] for image in sorted(labels)]])
    table = {str(label + 1): name for label, name in enumerate(FLOWERS)}
    _write(folder / "cat_to_name.json", [json.dumps(table)])


def _sun(folder: Path, rows: Rows) -> None:
    """ClassName.txt and the first partition."""
    _write(folder / "ClassName.txt", [f"/{place}\n" for place in SUN])
    for name, part in (("Training", rows["train"] + rows["val"]), ("Testing", rows["test"])):
        _write(folder / f"{name}_01.txt", [f"/{image}\n" for image, _, _ in part])


def _ucf(folder: Path, rows: Rows) -> None:
    """Lists of videos; actions are spelled without underscores."""
    actions = [name.replace("_", "") for name in UCF]
    lists = folder / "ucfTrainTestlist"
    _write(lists / "classInd.txt", [f"{n} {action}\n" for n, action in enumerate(actions, 1)])
    for name, part in (("train", rows["train"] + rows["val"]), ("test", rows["test"])):
        lines = [f"{actions[label]}/{Path(image).stem}.avi" for image, label, _ in part]
        ends = [f" {label + 1}\n" if name == "train" else "\n" for _, label, _ in part]
        _write(lists / f"{name}list01.txt", [a + b for a, b in zip(lines, ends, strict=True)])


def _aircraft(folder: Path, rows: Rows) -> None:
    """variants.txt, and one list for each split."""
    _write(folder / "variants.txt", [f"{name}\n" for name in VARIANTS])
    for split, part in rows.items():
        lines = [f"{Path(image).stem} {name}\n" for image, _, name in part]
        _write(folder / f"images_variant_{split}.txt", lines)


WRITERS: dict[str, Callable[[Path, Rows], None]] = {
    "pets": _pets, "cars": _cars, "flowers": _flowers,
    "sun": _sun, "ucf": _ucf, "aircraft": _aircraft,
}  # fmt: skip


def _write(path: Path, lines: list[str]) -> None:
    """Write a text file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines))


def _save(path: Path, **variables: Any) -> None:
    """Write a MATLAB file."""
    from scipy.io import savemat

    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, variables)


def _cells(names: list[str]) -> Any:
    """A cell array of strings."""
    import numpy as np

    return np.array([names], dtype=object)


def _structs(part: list[Row]) -> Any:
    """A struct array with file names and classes."""
    import numpy as np

    rows = [(Path(image).name, label + 1) for image, label, _ in part]
    return np.array([rows], dtype=[("fname", object), ("class", object)])
