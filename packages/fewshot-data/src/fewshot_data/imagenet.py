"""ImageNet as CoOp, SO and Tip-Adapter have it on disk; its 1000 classes, keyed by WordNet id."""

import logging
from pathlib import Path

from fewshot_data.fixed import size_complaints
from fewshot_data.images import ImageFiles, find_images, visible
from fewshot_data.layout import find_folder
from fewshot_data.listed import read_lines
from fewshot_data.raw import RawDataset
from fewshot_data.registry import DatasetSpec
from fewshot_data.schema import read_options

__all__ = ["class_folders", "name_classes", "open_source", "read_class_names"]

OPTIONS: dict[str, object] = {}
MARKS = ("images/train", "train", "images/val")
CLASSES = 1000

_log = logging.getLogger(__name__)


def open_source(spec: DatasetSpec, *, seed: int) -> RawDataset:
    """Open ImageNet: ``train`` to draw from, ``val`` to measure on, directly or below ``images``.

    Labels follow the sorted WordNet ids. Names come from ``classnames.txt``, which CoOp needs and
    which is checked here; without it the ids stand in, with a warning. Two names occur twice
    ("missile", "sunglasses"), so nothing is ever looked up by name. There is no validation split:
    CoOp validates on the test images, SO takes validation shots from the training images.

    Args:
        spec: Its root.
        seed: Not needed: the splits are official.

    Returns:
        Training and test images.

    Raises:
        FileNotFoundError: If a folder is missing.
        ValueError: If the validation images are not sorted into class folders, the folders of both
            splits differ, or ``classnames.txt`` does not fit them.

    Examples:
        >>> import tempfile
        >>> from fewshot_data import load_spec
        >>> open_source(load_spec("imagenet").at(tempfile.mkdtemp()), seed=0)
        ... # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        FileNotFoundError: no folder

    Reference:
        ``datasets/imagenet.py`` of KaiyangZhou/CoOp and of nairouz/SO.
    """
    read_options(spec.options, OPTIONS, owner="source 'imagenet'")
    folder = find_folder(spec, marks=MARKS)
    inside = folder / "images" if (folder / "images" / "train").is_dir() else folder
    train, test = (class_folders(inside / split, spec) for split in ("train", "val"))
    if train.keys() != test.keys():
        odd = sorted(train.keys() ^ test.keys())
        raise ValueError(
            f"dataset '{spec.name}': train and val have different class folders: {len(odd)} are in "
            f"one of them only, such as '{odd[0]}': complete '{inside}'"
        )
    ids = sorted(train)
    names = name_classes(ids, [folder / "classnames.txt", inside / "classnames.txt"], spec)
    paths: list[Path] = []
    labels: list[int] = []
    ends = [0]
    for split in (train, test):
        for label, wnid in enumerate(ids):
            paths += split[wnid]
            labels += [label] * len(split[wnid])
        ends.append(len(paths))
    pool, held = list(range(ends[1])), list(range(ends[1], ends[2]))
    return RawDataset(
        ImageFiles(paths), labels, names, pool, held,
        names=[f"{path.parent.name}/{path.name}" for path in paths],
        origin=f"the official train and val folders in '{inside}'",
        val_in_train=True,
        complaints=size_complaints(spec, {"train": len(pool), "test": len(held)}),
    )  # fmt: skip


def class_folders(folder: Path, spec: DatasetSpec) -> dict[str, list[Path]]:
    """List the images of every class folder; files beside the folders are left alone.

    Args:
        folder: Holds one folder per class.
        spec: Whose it is.

    Returns:
        Folder name to images in ASCII order, in ASCII order of the folders.

    Raises:
        FileNotFoundError: If the folder is missing or empty.
        ValueError: If images lie in it directly.

    Examples:
        >>> from fewshot_data import load_spec
        >>> class_folders(Path("absent"), load_spec("imagenet"))
        ... # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        FileNotFoundError: no folder
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"dataset '{spec.name}': no folder '{folder}'")
    classes = {entry.name: find_images(entry) for entry in visible(folder) if entry.is_dir()}
    if classes:
        return classes
    if find_images(folder):
        raise ValueError(
            f"dataset '{spec.name}': the validation images in '{folder}' are not sorted into class "
            "folders: move each into a folder named after its WordNet id (valprep.sh of "
            "soumith/imagenetloader.torch does it), or use NOAH's lists (fs-imagenet)"
        )
    raise FileNotFoundError(f"dataset '{spec.name}': no class folders in '{folder}'")


def name_classes(ids: list[str], places: list[Path], spec: DatasetSpec) -> tuple[str, ...]:
    """Name classes by the first ``classnames.txt`` there is, else by their WordNet ids.

    Args:
        ids: WordNet ids in label order.
        places: Where the file may be.
        spec: Whose classes.

    Returns:
        The names; two may be equal.

    Raises:
        ValueError: If the file does not name every class.
    """
    for path in places:
        if path.is_file():
            known = read_class_names(path)
            lacking = [wnid for wnid in ids if wnid not in known]
            if lacking:
                raise ValueError(
                    f"'{path}' has no line for {len(lacking)} class folders of '{spec.name}', such "
                    f"as '{lacking[0]}': a wrong file lowers accuracy without any other sign; get "
                    "classnames.txt of KaiyangZhou/CoOp"
                )
            return tuple(known[wnid] for wnid in ids)
    _log.warning(
        "dataset '%s': no classnames.txt in '%s', so WordNet ids stand in for class names: "
        "zero-shot prompts mean nothing then",
        spec.name,
        places[0].parent,
    )
    return tuple(ids)


def read_class_names(path: Path) -> dict[str, str]:
    r"""Read ``classnames.txt``: lines ``<WordNet id> <name>``, sorted by id.

    Args:
        path: The file.

    Returns:
        WordNet id to name.

    Raises:
        ValueError: If a line is no such pair, an id occurs twice, or the ids are not sorted.

    Examples:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "classnames.txt"
        >>> _ = file.write_text("n01440764 tench\nn01443537 goldfish\n")
        >>> read_class_names(file)["n01443537"]
        'goldfish'
    """
    found: dict[str, str] = {}
    for number, line in enumerate(read_lines(path), 1):
        wnid, _, name = line.partition(" ")
        if not name.strip() or not wnid.startswith("n") or not wnid[1:].isdigit():
            raise ValueError(f"'{path}', line {number}: {line[:60]!r} is not '<n01440764> <name>'")
        if wnid in found:
            raise ValueError(f"'{path}', line {number}: '{wnid}' occurs twice")
        found[wnid] = name.strip()
    if list(found) != sorted(found):
        raise ValueError(f"'{path}' is not sorted by WordNet id: it is not CoOp's file")
    return found
