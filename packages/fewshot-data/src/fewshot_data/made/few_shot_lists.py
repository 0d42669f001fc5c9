"""Tiny copies of NOAH's few-shot lists: four classes, draws of 1 to 16 shots with three seeds."""

from pathlib import Path
from random import Random

from fewshot_data.made.pictures import write_odd_pictures, write_picture
from fewshot_data.registry import DatasetSpec

__all__ = ["LAYOUTS", "make"]

LAYOUTS = ("noah",)
SHOTS, SEEDS, CLASSES = (1, 2, 4, 8, 16), (0, 1, 2), 4


def make(spec: DatasetSpec, root: Path, *, layout: str, rng: Random) -> Path:
    """Write the lists and their images; the one-shot lists of the pets have every line twice.

    Args:
        spec: One of the sets with lists; those that are test sets only get a test list.
        root: Folder of all data.
        layout: One of `LAYOUTS`.
        rng: Of the pictures and draws.

    Returns:
        The dataset's folder.

    Examples:
        >>> import tempfile
        >>> from fewshot_data import load_spec
        >>> spec = load_spec("fs-imagenet_a")
        >>> folder = make(spec, Path(tempfile.mkdtemp()), layout="noah", rng=Random(0))
        >>> [path.name for path in (folder / "annotations").iterdir()]
        ['val_meta.list']
    """
    folder = root / spec.folders[0]
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    test_list = spec.options.get("test_list", "test_meta")
    places = {
        "train": folder / spec.options.get("train_images", "images"),
        "test": folder / spec.options.get("test_images", "images"),
    }
    tested = _images(spec, "test", 2)
    _write(folder, f"{test_list}.list", places["test"], tested, rng)
    odd = [entry for group in tested for entry in group]
    write_odd_pictures([places["test"] / path for path, _ in odd], [label for _, label in odd], rng)
    if "train" not in spec.splits:
        return folder
    train = _images(spec, "train", 17)
    for shots in SHOTS:
        for seed in SEEDS:
            draw = [image for group in train for image in rng.sample(group, shots)]
            repeats = 2 if shots == 1 and "pets" in spec.name else 1
            lines = [[image] * repeats for image in draw]
            _write(
                folder, f"train_meta.list.num_shot_{shots}.seed_{seed}", places["train"], lines, rng
            )
    if test_list != "val_meta":
        _write(folder, "val_meta.list", places["train"], _images(spec, "val", 2), rng)
    return folder


def _images(spec: DatasetSpec, split: str, size: int) -> list[list[tuple[str, int]]]:
    """Per class, paths and labels; a space and a comma are in some names, as in ImageNet-A."""
    folder = {"fs-stanford_cars": f"cars_{'test' if split == 'test' else 'train'}/"}.get(
        spec.name, ""
    )
    return [
        [(f"{folder}{split} {label}, {number}.jpg", label) for number in range(size)]
        for label in range(CLASSES)
    ]


def _write(
    folder: Path, name: str, images: Path, groups: list[list[tuple[str, int]]], rng: Random
) -> None:
    """One list, and those of its images that are not there yet."""
    lines = [entry for group in groups for entry in group]
    for path, label in lines:
        if not (images / path).exists():
            write_picture(images / path, label, rng)
    text = "".join(f"{path} {label}\n" for path, label in lines)
    (folder / "annotations" / name).write_text(text)
