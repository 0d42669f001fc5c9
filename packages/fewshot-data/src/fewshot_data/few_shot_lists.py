"""The few-shot lists of NOAH and SPT, which SNELL's ``-FS`` sets use: one file per draw."""

import os
import re
from pathlib import Path

from fewshot_data.fixed import size_complaints
from fewshot_data.images import ImageFiles
from fewshot_data.layout import find_folder
from fewshot_data.listed import class_names, read_list, require_files
from fewshot_data.raw import RawDataset
from fewshot_data.registry import DatasetSpec
from fewshot_data.schema import read_options

__all__ = ["open_source"]

OPTIONS = {"train_images": "images", "test_images": "images", "test_list": "test_meta"}
DRAW = re.compile(r"train_meta\.list\.num_shot_(\d{1,4})\.seed_(\d{1,4})", re.ASCII)
ELSEWHERE = ("images/train", "images/val", "images", "jpg", "")

Entries = list[tuple[str, int]]


def open_source(spec: DatasetSpec, *, seed: int) -> RawDataset:
    """Open a dataset by its lists: a training list per shots and seed, and a test list.

    `RawDataset.official` gives the published draws, repeats included: the one-shot lists of the
    pets name each image twice. Other protocols draw from the images that any list names. The
    prefix of the images is the dataset's own, written in its registry file, where the releases
    guess it from the name of the folder.

    Args:
        spec: Options: ``train_images`` and ``test_images`` are the folders that the lists'
            paths are relative to, ``test_list`` the list that accuracy is measured on.
        seed: Unused: every list is fixed.

    Returns:
        The images of all lists; ``official(shots, seed)`` selects one draw.

    Raises:
        FileNotFoundError: If the folder, the test list or listed images are missing.
        ValueError: If a line is broken, or lists disagree on a label.

    Examples:
        >>> import tempfile
        >>> from fewshot_data import load_spec
        >>> open_source(load_spec("fs-food-101").at(tempfile.mkdtemp()), seed=0)
        ... # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        FileNotFoundError: no folder

    Reference:
        ``data/few-shot`` of ZhangYuanhan-AI/NOAH.
    """
    options = read_options(spec.options, OPTIONS, owner="source 'few-shot-lists'")
    test_list = f"annotations/{options['test_list']}.list"
    folder = find_folder(spec, marks=(test_list, "annotations"))
    lists = _read_lists(folder / "annotations", options["test_list"])
    drawn = _draws(folder)
    to_learn = [*lists["train"], *(entry for entries in drawn.values() for entry in entries)]
    bases = {
        "train": _base(folder, options["train_images"], to_learn),
        "test": _base(folder, options["test_images"], lists["test"]),
    }
    lists["test"] = _in_class_folders(bases["test"], lists["test"], to_learn)
    builder = _Builder(spec, bases)
    train, val, test = (builder.add(part, lists[part]) for part in ("train", "val", "test"))
    draws = {draw: builder.add("train", entries) for draw, entries in drawn.items()}
    pool = list(dict.fromkeys([*train, *(i for draw in draws.values() for i in draw)]))
    require_files(builder.paths, owner=f"dataset '{spec.name}'", fix="copy the images there")
    # Only a test set may lack classes at the end: lists to learn from have them all.
    ids = range((not pool and spec.classes) or max(builder.labels) + 1)
    return RawDataset(
        ImageFiles(builder.paths),
        builder.labels,
        class_names(builder.names, builder.labels, ids, {}),
        pool,
        test,
        val,
        names=builder.names,
        origin=f"the lists of NOAH and SPT in '{folder / 'annotations'}'",
        official=_official(spec, draws, train),
        complaints=size_complaints(spec, {"test": len(test)}),
    )


class _Builder:
    """Gives every listed image one position, however many lists name it."""

    def __init__(self, spec: DatasetSpec, bases: dict[str, Path]) -> None:
        self.spec, self.bases = spec, {**bases, "val": bases["train"]}
        self.positions: dict[Path, int] = {}
        self.paths: list[Path] = []
        self.names: list[str] = []
        self.labels: list[int] = []

    def add(self, part: str, entries: Entries) -> list[int]:
        """Positions of a list's entries, in its order, repeats included."""
        return [self._position(self.bases[part] / name, name, label) for name, label in entries]

    def _position(self, path: Path, name: str, label: int) -> int:
        """The position of one image, new or known."""
        classes = self.spec.classes
        if classes is not None and label >= classes:
            raise ValueError(
                f"dataset '{self.spec.name}' has {classes} classes, but a list gives '{name}' "
                f"the label {label}: the lists are another dataset's"
            )
        position = self.positions.setdefault(path, len(self.paths))
        if position == len(self.paths):
            self.paths.append(path)
            self.names.append(name)
            self.labels.append(label)
        elif self.labels[position] != label:
            raise ValueError(
                f"dataset '{self.spec.name}': lists disagree on '{name}', which has label "
                f"{self.labels[position]} and label {label}: restore the annotations"
            )
        return position


def _read_lists(annotations: Path, test_list: str) -> dict[str, Entries]:
    """The lists that have no shots: whole training set, validation and test."""
    path = annotations / f"{test_list}.list"
    if not path.is_file():
        found = ", ".join(sorted(entry.name for entry in annotations.iterdir())[:5]) or "nothing"
        raise FileNotFoundError(
            f"no list '{path}'; in that folder: {found}. The lists lie in the GitHub repository "
            "ZhangYuanhan-AI/NOAH under data/"
        )
    whole, val = annotations / "train_meta.list", annotations / "val_meta.list"
    return {
        "train": read_list(whole) if whole.is_file() else [],
        "val": read_list(val) if val.is_file() and val != path else [],
        "test": read_list(path),
    }


def _draws(folder: Path) -> dict[tuple[int, int], Entries]:
    """Every training list by its shots and seed."""
    found = {}
    for path in (folder / "annotations").iterdir():
        name = DRAW.fullmatch(path.name)
        if name and path.is_file():
            found[int(name[1]), int(name[2])] = read_list(path)
    return dict(sorted(found.items()))


def _base(folder: Path, images: str, entries: Entries) -> Path:
    """The folder that a list's paths are relative to; the dataset's own first, then CoOp's."""
    for name, _ in entries[:1]:
        for place in (images, *ELSEWHERE):
            if os.path.exists(folder / place / name):  # noqa: PTH110  # never raises
                return folder / place
    return folder / images


def _in_class_folders(base: Path, test: Entries, train: Entries) -> Entries:
    """The test list for images that were sorted into class folders, where its own paths are flat.

    ImageNet's validation images come flat, as the list has them, and most people sort them.
    """
    folders = {label: name.partition("/")[0] for name, label in train if "/" in name}
    name, label = test[0]
    if "/" in name or label not in folders or os.path.exists(base / name):  # noqa: PTH110
        return test
    if not os.path.exists(base / folders[label] / name):  # noqa: PTH110
        return test
    return [(f"{folders.get(label, '')}/{name}", label) for name, label in test]


def _official(spec: DatasetSpec, draws: dict[tuple[int, int], list[int]], train: list[int]):
    """What answers to (shots, seed): the list of that draw."""

    def official(shots: int, seed: int) -> list[int]:
        if shots == -1 and train:
            return list(train)
        if (shots, seed) not in draws:
            known = ", ".join(str(number) for number in sorted({k for k, _ in draws})) or "none"
            seeds = ", ".join(str(number) for number in sorted({s for _, s in draws})) or "none"
            raise ValueError(
                f"dataset '{spec.name}' has no list for shots={shots} and seed={seed}: "
                f"its lists have shots {known} and seeds {seeds}"
            )
        return list(draws[shots, seed])

    return official
