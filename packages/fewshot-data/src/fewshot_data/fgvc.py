"""FGVC-5 as VPT lays it out: train.json, val.json and test.json map image paths to class ids."""

import logging
import os
from pathlib import Path

from fewshot_data.fgvc_official import MARKS, Listing, read_official
from fewshot_data.fixed import size_complaints, whole_train
from fewshot_data.images import ImageFiles
from fewshot_data.layout import find_folder
from fewshot_data.listed import class_names, read_table, require_files, safe_path
from fewshot_data.raw import RawDataset
from fewshot_data.registry import DatasetSpec
from fewshot_data.schema import read_options

__all__ = ["open_source", "read_json"]

OPTIONS = {"style": "", "images": "images", "train": "train", "layout": ""}
LAYOUTS = ("", "vpt", "official")
NUMBERINGS = ("car_ims", "cars_train")

_log = logging.getLogger(__name__)


def open_source(spec: DatasetSpec, *, seed: int) -> RawDataset:
    """Open a fine-grained dataset by VPT's JSON files, else by the files of its own release.

    Class ids may start at 1 or have gaps. They become labels by one map for all splits, the sorted
    ids of their union: a map per split, as VPT and SNELL have it, shifts labels as soon as one
    split lacks a class. Without the JSON files (their links are dead) the official split is read,
    a tenth of its training images, drawn by ``seed``, is put aside as the validation split, and
    the result is marked as not the published one.

    Args:
        spec: Options: ``style`` is the release's form (``cub``, ``dogs``, ``flowers``, ``cars``);
            ``images`` the image folder; ``train`` what to learn from (``"train"``, ``"train+val"``
            as GPS and SSF do, or ``"train_0.1"`` for VPT's reduced training files); ``layout``
            insists on ``"vpt"`` or ``"official"``.
        seed: Draws the validation split of the official layout.

    Returns:
        Images of the three splits, in the order of the files.

    Raises:
        FileNotFoundError: If the folder, a split file or listed images are missing.
        ValueError: If a file is not what it should be; file and entry are named.

    Examples:
        >>> import tempfile
        >>> from fewshot_data import load_spec
        >>> open_source(load_spec("fgvc-cub").at(tempfile.mkdtemp()), seed=0)
        ... # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        FileNotFoundError: no folder

    Reference:
        ``src/data/datasets/json_dataset.py`` of KMnP/vpt.
    """
    options = read_options(spec.options, OPTIONS, owner="source 'fgvc'")
    if options["layout"] not in LAYOUTS:
        raise ValueError(f"option 'layout' is '{options['layout']}': give 'vpt' or 'official'")
    if options["style"] not in MARKS:
        raise ValueError(f"option 'style' is '{options['style']}': give {', '.join(MARKS)}")
    marks = MARKS[options["style"]]
    vpt = () if options["layout"] == "official" else ("train.json",)
    folder = find_folder(spec, marks=vpt if options["layout"] == "vpt" else (*vpt, *marks))
    if vpt and (folder / "train.json").is_file():
        listing = _read_vpt(spec, folder, options["images"], options["train"])
    else:
        listing = read_official(spec, folder, options["style"], options["train"], seed)
    return _assemble(spec, listing)


def read_json(path: Path) -> list[tuple[str, int]]:
    """Read one of VPT's split files: an object from image path to class id.

    Args:
        path: The file.

    Returns:
        Path and id of each entry, in order.

    Raises:
        FileNotFoundError: If the file is not there.
        ValueError: If it is no such object; the entry is named.

    Examples:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "train.json"
        >>> _ = file.write_text('{"001.Owl/1.jpg": "17"}')
        >>> read_json(file)
        [('001.Owl/1.jpg', 17)]
    """
    if not path.is_file():
        raise FileNotFoundError(f"no split file '{path}'")
    # Pairs instead of a dict, so that a repeated path cannot vanish.
    pairs = read_table(path, _Pairs)
    if not isinstance(pairs, _Pairs) or not pairs:
        raise ValueError(f"'{path}' must be one JSON object from image path to class id")
    entries, seen = [], set()
    for name, value in pairs:
        where = f"'{path}', entry {len(entries) + 1}"
        entry = safe_path(name, where)
        if entry in seen:
            raise ValueError(f"{where}: the image {name!r} is listed twice")
        seen.add(entry)
        entries.append((entry, _class_id(value, where)))
    return entries


class _Pairs(list):
    """The members of a JSON object in order."""


def _class_id(value: object, where: str) -> int:
    """A class id, given as a number or as its digits."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    if type(value) is int and 0 <= value < 10**9:
        return value
    raise ValueError(f"{where}: the class id is {str(value)[:40]!r}; it must be a whole number")


def _read_vpt(spec: DatasetSpec, folder: Path, images: str, train: str) -> Listing:
    """The three splits of the JSON files, with another training file if one was asked for."""
    stem = "train" if train == "train+val" else train
    if not (folder / f"{stem}.json").is_file():
        found = sorted(path.stem for path in folder.glob("train*.json"))
        raise ValueError(
            f"option 'train' is '{train}', but '{folder}' has no {stem}.json; "
            f"it can be {', '.join(found)} or train+val"
        )
    parts = {
        split: read_json(folder / f"{stem if split == 'train' else split}.json")
        for split in ("train", "val", "test")
    }
    ids = {number for part in parts.values() for _, number in part}
    if stem != "train":  # a reduced training file may lack classes that the whole one has
        ids |= {number for _, number in read_json(folder / "train.json")}
    if train == "train+val":
        parts = {"train": parts["train"] + parts["val"], "val": [], "test": parts["test"]}
    _compare_ids(spec, parts, ids)
    origin = f"VPT's JSON files in '{folder}' (training on {train})"
    base = _image_base(folder, images, [name for name, _ in parts["train"]])
    return Listing(base, parts, origin, published=train == "train", ids=ids)


def _compare_ids(spec: DatasetSpec, parts: dict[str, list[tuple[str, int]]], ids: set[int]) -> None:
    """Say where a map of ids per split would have shifted labels."""
    for split, part in parts.items():
        lacking = len(ids - {number for _, number in part})
        if part and lacking:
            _log.warning(
                "dataset '%s': the %s split lacks %d of %d classes; labels come from the union of "
                "the splits (VPT and SNELL number each split by itself, which shifts them here)",
                *(spec.name, split, lacking, len(ids)),
            )


def _image_base(folder: Path, images: str, keys: list[str]) -> Path:
    """The folder that keys are relative to, decided once by the first key that exists."""
    for key in keys:
        for base in (folder / images, folder):
            if os.path.exists(base / key):  # noqa: PTH110  # never raises, whatever the key holds
                return base
    for listed, other in (NUMBERINGS, NUMBERINGS[::-1]):
        if keys[0].startswith(f"{listed}/") and (folder / other).is_dir():
            raise FileNotFoundError(_wrong_numbering(folder, listed, other))
    return folder / images if (folder / images).is_dir() else folder


def _wrong_numbering(folder: Path, listed: str, other: str) -> str:
    """Stanford Cars exists in two packages that number the same photographs differently."""
    packages = {
        "car_ims": "car_ims.tgz (car_ims/000001.jpg … 016185.jpg, with cars_annos.mat)",
        "cars_train": "cars_train.tgz and cars_test.tgz (cars_train/00001.jpg …, with devkit/)",
    }
    return (
        f"the JSON files in '{folder}' list {listed}/, but the images there are {other}/, another "
        f"numbering of the same photographs: the JSON files fit {packages[listed]}, and cannot be "
        f"used with {packages[other]}. Get the other package, or move the JSON files away to read "
        "the official split"
    )


def _assemble(spec: DatasetSpec, listing: Listing) -> RawDataset:
    """Labels from ids, positions from splits."""
    entries = [entry for split in ("train", "val", "test") for entry in listing.parts[split]]
    ids = sorted(listing.ids | {number for _, number in entries})
    label_of = {number: label for label, number in enumerate(ids)}
    names = [name for name, _ in entries]
    labels = [label_of[number] for _, number in entries]
    paths = [listing.base / name for name in names]
    require_files(paths, owner=f"dataset '{spec.name}'", fix="unpack its images again")
    sizes = {split: len(part) for split, part in listing.parts.items()}
    ends = [sizes["train"], sizes["train"] + sizes["val"]]
    train = list(range(ends[0]))
    return RawDataset(
        ImageFiles(paths),
        labels,
        class_names(names, labels, ids, listing.given),
        train,
        list(range(ends[1], len(entries))),
        list(range(*ends)),
        names=names,
        origin=listing.origin,
        published=listing.published,
        official=whole_train(train, spec.name),
        complaints=size_complaints(spec, sizes) if listing.published else (),
    )
