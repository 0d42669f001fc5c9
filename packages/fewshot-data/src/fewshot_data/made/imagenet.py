"""Tiny copies of ImageNet and of its shifts, with the traps of the real ones."""

from pathlib import Path
from random import Random

from fewshot_data.made.pictures import write_picture
from fewshot_data.registry import DatasetSpec

__all__ = ["LAYOUTS", "make"]

LAYOUTS = ("coop", "so")
CLASSES = {"n01440764": "tench", "n03773504": "missile", "n04008634": "missile"}
"""Two classes share a name, as 657 and 744 do."""
NUMBERS = ("0", "1", "2", "10", "11")


def make(spec: DatasetSpec, root: Path, *, layout: str, rng: Random) -> Path:
    """Write three classes, or of ImageNetV2 five folders that are numbers.

    Args:
        spec: ImageNet or one of its shifts.
        root: Folder of all data.
        layout: ``"coop"`` with ``images/train`` and ``classnames.txt``; ``"so"`` with ``train``.
        rng: Of the pictures.

    Returns:
        The dataset's folder.

    Examples:
        >>> import tempfile
        >>> from fewshot_data import load_spec
        >>> root = Path(tempfile.mkdtemp())
        >>> folder = make(load_spec("imagenet"), root, layout="coop", rng=Random(0))
        >>> sorted(path.name for path in folder.iterdir())
        ['classnames.txt', 'images']
    """
    folder = root / spec.folders[0]
    if spec.source == "imagenet-shift":
        return _shift(spec, folder, layout, rng)
    inside = folder / "images" if layout == "coop" else folder
    for wnid, label in zip(CLASSES, range(3), strict=True):
        for number in range(8):
            write_picture(inside / "train" / wnid / f"{wnid}_{number}.JPEG", label, rng)
        for number in range(2):
            write_picture(inside / "val" / wnid / f"ILSVRC2012_val_{number:08d}.JPEG", label, rng)
    (inside / "val" / "README.txt").write_text("")
    _names(folder, layout)
    return folder


def _shift(spec: DatasetSpec, folder: Path, layout: str, rng: Random) -> Path:
    """One of the four test sets."""
    place = folder / spec.options["images"]
    numbered = spec.options.get("numbered", False)
    for label, name in enumerate(NUMBERS if numbered else CLASSES):
        for number in range(2):
            # ImageNet-A's names hold a score and words, with spaces and commas.
            image = f"0.00{number} _ egret, white, bird _ 0.9{number}.jpg"
            write_picture(place / name / image, label, rng)
    (place / "README.txt").write_text("")
    if not numbered:
        _names(folder, layout)
    return folder


def _names(folder: Path, layout: str) -> None:
    """CoOp's classnames.txt."""
    if layout == "coop":
        lines = [f"{wnid} {name}\n" for wnid, name in CLASSES.items()]
        (folder / "classnames.txt").write_text("".join(lines))
