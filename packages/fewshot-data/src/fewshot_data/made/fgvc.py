"""Tiny copies of the FGVC-5: VPT's JSON files, the official annotation files, or class folders."""

import json
from pathlib import Path
from random import Random
from typing import Any

from fewshot_data.made.pictures import write_odd_pictures, write_picture
from fewshot_data.registry import DatasetSpec

__all__ = ["LAYOUTS", "make"]

LAYOUTS = ("vpt", "official", "class-folders")
IDS = {"cub": (0, 817, 1010), "dogs": (1, 2, 3), "flowers": (1, 2, 3), "cars": (1, 2, 3)}
"""Class ids in the files; NABirds' are sparse."""
SIZES = {"train": 4, "val": 2, "test": 2}
FOLDERS = {
    "cub": ("001.Black_footed_Albatross", "0817", "1010.Common_Yellowthroat"),
    "dogs": ("n02085620-Chihuahua", "n02086240-Shih-Tzu", "n02116738-African_hunting_dog"),
}

Rows = dict[str, list[tuple[str, int]]]


def make(spec: DatasetSpec, root: Path, *, layout: str, rng: Random) -> Path:
    """Write three classes with 4, 2 and 2 images in train, val and test.

    Args:
        spec: One of the FGVC-5.
        root: Folder of all data.
        layout: One of `LAYOUTS`.
        rng: Of the pictures.

    Returns:
        The dataset's folder.

    Examples:
        >>> import tempfile
        >>> from fewshot_data import load_spec
        >>> folder = make(
        ...     load_spec("fgvc-cub"), Path(tempfile.mkdtemp()), layout="vpt", rng=Random(0)
        ... )
        >>> sorted(path.name for path in folder.iterdir())
        ['images', 'test.json', 'train.json', 'val.json']
    """
    folder, style = root / spec.folders[0], spec.options["style"]
    folder.mkdir(parents=True, exist_ok=True)
    if layout == "class-folders":
        _class_folders(folder, rng)
        return folder
    rows = _rows(style)
    images = folder / spec.options["images"]
    for part in rows.values():
        for name, label in part:
            write_picture(images / name, label, rng)
    train = rows["train"]
    write_odd_pictures([images / name for name, _ in train], [label for _, label in train], rng)
    if layout == "vpt":
        _write_json(folder, rows, style)
    else:
        WRITERS[style](folder, rows)
    return folder


def _rows(style: str) -> Rows:
    """Image paths and labels of every split; the last class is absent from val."""
    rows: Rows = {"train": [], "val": [], "test": []}
    number = 0
    for label in range(3):
        for split, size in SIZES.items():
            for _ in range(0 if split == "val" and label == 2 else size):
                number += 1
                rows[split].append((_name(style, label, number), label))
    return rows


def _name(style: str, label: int, number: int) -> str:
    """The path of one image, as each release spells it."""
    if style in FOLDERS:
        folder = FOLDERS[style][label]
        return f"{folder}/{folder.split('.')[-1].split('-')[0]}_{number:04d}.jpg"
    return f"jpg/image_{number:05d}.jpg" if style == "flowers" else f"car_ims/{number:06d}.jpg"


def _write_json(folder: Path, rows: Rows, style: str) -> None:
    """VPT's files; ids are numbers in training and strings in the test file, both are met."""
    for split, part in rows.items():
        ids = {name: IDS[style][label] for name, label in part}
        values = {name: str(number) if split == "test" else number for name, number in ids.items()}
        (folder / f"{split}.json").write_text(json.dumps(values))


def _cub(folder: Path, rows: Rows) -> None:
    """The five text files of CUB-200-2011 and NABirds."""
    flat = [(name, label, split != "test") for split, part in rows.items() for name, label in part]
    texts = {
        "images.txt": [f"{n} {name}" for n, (name, _, _) in enumerate(flat, 1)],
        "image_class_labels.txt": [f"{n} {label + 1}" for n, (_, label, _) in enumerate(flat, 1)],
        "train_test_split.txt": [f"{n} {int(train)}" for n, (_, _, train) in enumerate(flat, 1)],
        "classes.txt": [f"{label + 1} {name}" for label, name in enumerate(FOLDERS["cub"])],
        "sizes.txt": [f"{n} 48 40" for n in range(1, len(flat) + 1)],
    }
    for name, lines in texts.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines))


def _dogs(folder: Path, rows: Rows) -> None:
    """One list per split, 1-based labels."""
    for split, part in (("train", rows["train"] + rows["val"]), ("test", rows["test"])):
        _save(
            folder / f"{split}_list.mat",
            file_list=_cells([name for name, _ in part]),
            labels=[[label + 1] for _, label in part],
        )


def _flowers(folder: Path, rows: Rows) -> None:
    """Labels of all images, and image numbers of each split."""
    number = {name: int(name[-9:-4]) for part in rows.values() for name, _ in part}
    labels = {number[name]: label + 1 for part in rows.values() for name, label in part}
    _save(folder / "imagelabels.mat", labels=[[labels[n] for n in sorted(labels)]])
    keys = {"train": "trnid", "val": "valid", "test": "tstid"}
    ids = {keys[split]: [[number[name] for name, _ in part]] for split, part in rows.items()}
    _save(folder / "setid.mat", **ids)


def _cars(folder: Path, rows: Rows) -> None:
    """The file that belongs to car_ims.tgz."""
    import numpy as np

    kinds = [("relative_im_path", "O"), ("class", "O"), ("test", "O")]
    flat = [(n, label + 1, int(s == "test")) for s, part in rows.items() for n, label in part]
    _save(folder / "cars_annos.mat", annotations=np.array([flat], dtype=kinds))


def _cells(texts: list[str]) -> Any:
    """A column of strings as MATLAB keeps them."""
    import numpy as np

    column = np.empty((len(texts), 1), dtype=object)
    column[:, 0] = texts
    return column


def _save(path: Path, **variables: Any) -> None:
    """Write a MATLAB file."""
    from scipy.io import savemat

    savemat(path, variables)


def _class_folders(folder: Path, rng: Random) -> None:
    """SSF's form: train/ and val/ with one folder per class."""
    for split, size in (("train", 10), ("val", 2)):
        for label in range(3):
            for number in range(size):
                write_picture(folder / split / f"{label + 1:03d}" / f"{number}.jpg", label, rng)


WRITERS = {"cub": _cub, "dogs": _dogs, "flowers": _flowers, "cars": _cars}
