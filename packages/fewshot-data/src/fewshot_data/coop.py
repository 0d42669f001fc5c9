"""The few-shot datasets of CLIP's followers: CoOp's split files, or the original annotations."""

import logging
from itertools import pairwise
from pathlib import Path

from fewshot_data.coop_original import ORIGINALS, read_original
from fewshot_data.fixed import size_complaints
from fewshot_data.images import ImageFiles
from fewshot_data.layout import find_folder
from fewshot_data.listed import require_files
from fewshot_data.raw import RawDataset
from fewshot_data.registry import DatasetSpec
from fewshot_data.schema import read_options
from fewshot_data.split_file import Items, check_items, read_split_file

__all__ = ["MIRROR", "image_folder", "open_source", "read_items"]

OPTIONS = {
    "split": "", "images": [], "style": "", "without": [], "marks": [], "layout": "",
    "files": "all",
}  # fmt: skip
LAYOUTS = ("", "split", "original")
MIRROR = "https://github.com/linzhiqiu/cross_modal_adaptation (folder splits/)"
"""Where all of CoOp's split files are, now that their Google Drive links often fail."""
MULTISPECTRAL = ("EuroSATallBands", "allBands", "EuroSAT_MS")

_log = logging.getLogger(__name__)


def open_source(spec: DatasetSpec, *, seed: int) -> RawDataset:
    """Open a dataset by CoOp's split file, else by the annotations that its release came with.

    With the split file any tree of the images will do, and no annotation is needed. Without it the
    published split cannot be had: images are sorted, shuffled by ``seed`` and cut in the published
    proportions, and the result says that it is another split. (FGVC-Aircraft has an official split
    in its own files, which is the published one.)

    Args:
        spec: Options: ``split`` is the split file's name; ``images`` the places where images may
            be; ``style`` the form of the original files, one of `coop_original.ORIGINALS`;
            ``without`` class folders that are left out; ``layout`` insists on ``"split"`` or
            ``"original"``; ``files = "none"`` looks at lists only and at no image.
        seed: Cuts splits where there is no split file.

    Returns:
        Images of the three splits, in the order of the file.

    Raises:
        FileNotFoundError: If the folder, the split and the annotations, or listed images are
            missing.
        ValueError: If a file is not what it should be; file and entry are named.

    Examples:
        >>> import tempfile
        >>> from fewshot_data import load_spec
        >>> open_source(load_spec("dtd").at(tempfile.mkdtemp()), seed=0)
        ... # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        FileNotFoundError: no folder

    Reference:
        ``datasets/*.py`` of KaiyangZhou/CoOp, nairouz/SO and MaxZanella/CLIP-LoRA.
    """
    options = read_options(spec.options, OPTIONS, owner="source 'coop'")
    if options["layout"] not in LAYOUTS:
        raise ValueError(f"option 'layout' is '{options['layout']}': give 'split' or 'original'")
    folder, items, origin, published = read_items(spec, options, seed=seed)
    names = check_items(items, origin)
    images = folder / options["images"][0]
    if options["files"] == "all":
        images = image_folder(spec, folder, options["images"], items)
    order = {split: items.get(split, []) for split in ("train", "val", "test")}
    flat = [item for part in order.values() for item in part]
    paths = [images / item.path for item in flat]
    if options["files"] == "all":
        fix = f"complete '{images}', or give the dataset's folder as root"
        require_files(paths, owner=f"dataset '{spec.name}'", fix=fix)
    if not published:
        _log.warning("dataset '%s': %s", spec.name, origin)
    ends = [0]
    for part in order.values():
        ends.append(ends[-1] + len(part))
    train, val, test = (list(range(a, b)) for a, b in pairwise(ends))
    return RawDataset(
        ImageFiles(paths), [item.label for item in flat], names, train, test, val,
        names=[item.path for item in flat], origin=origin, published=published,
        complaints=size_complaints(spec, {s: len(part) for s, part in order.items()}),
    )  # fmt: skip


def read_items(spec: DatasetSpec, options: dict, *, seed: int) -> tuple[Path, Items, str, bool]:
    """Find the dataset's folder and read which images are in which split.

    Args:
        spec: The dataset.
        options: Its options, complete.
        seed: Cuts splits where there is no split file.

    Returns:
        The folder, the images of each split, a sentence on where they come from, and whether they
        are the published splits.

    Raises:
        FileNotFoundError: If there is neither a split file nor the original annotations.
        ValueError: If a file is not what it should be.
    """
    split, style, layout = options["split"], options["style"], options["layout"]
    own = f"split_fewshot_data_{spec.name}.json"
    files = [name for name in (split, own) if name and layout != "original"]
    marks = [*files, *([] if layout == "split" else [*ORIGINALS[style].marks, *options["marks"]])]
    folder = _find(spec, marks, options)
    for name in files:
        if (folder / name).is_file():
            origin = f"the split of '{folder / name}'"
            return folder, read_split_file(folder / name), origin, name == split
    if layout == "split":
        raise FileNotFoundError(
            f"no split file '{folder / split}' of dataset '{spec.name}': copy it from {MIRROR}"
        )
    return folder, *read_original(spec, folder, options, seed)


def image_folder(spec: DatasetSpec, folder: Path, places: list[str], items: Items) -> Path:
    """Choose the folder that the listed paths lie below: the first that holds one of them.

    Args:
        spec: The dataset.
        folder: Its folder.
        places: Where images may be, below the folder; ``"."`` is the folder itself.
        items: The images of each split.

    Returns:
        The image folder.

    Raises:
        FileNotFoundError: If no place holds any of the first hundred images.
    """
    some = [item.path for part in items.values() for item in part[:100]]
    # One level too deep is a usual result of unpacking: SUN397/SUN397, dtd/dtd.
    candidates = [folder / place for place in places]
    candidates += [folder / place / Path(place).name for place in places if place != "."]
    for place in candidates:
        if any((place / path).exists() for path in some):
            return place
    wrong = [name for name in MULTISPECTRAL if (folder / name).exists()]
    if wrong:
        raise FileNotFoundError(
            f"dataset '{spec.name}': '{folder / wrong[0]}' holds the multispectral images, which "
            "no harness uses: get the RGB version (EuroSAT.zip) and put it into '2750'"
        )
    tried = ", ".join(str(place) for place in candidates)
    raise FileNotFoundError(
        f"dataset '{spec.name}': none of its images is in {tried} (looked for '{some[0]}' and "
        f"{len(some) - 1} others): put the images there{_homes(spec)}"
    )


def _find(spec: DatasetSpec, marks: list[str], options: dict) -> Path:
    """Find the folder, and say what a split file is and where it is when there is none."""
    try:
        return find_folder(spec, marks=marks)
    except FileNotFoundError as error:
        if not options["split"]:
            raise
        raise FileNotFoundError(
            f"{error}; the split file {options['split']} is in {MIRROR}: with it no annotation "
            "file is needed"
        ) from error


def _homes(spec: DatasetSpec) -> str:
    """Where the data can be had."""
    return f"; homes: {', '.join(spec.homes)}" if spec.homes else ""
