"""One's own images: one folder per class, with or without ``train/``, ``val/`` and ``test/``."""

import logging
from dataclasses import dataclass
from pathlib import Path

from fewshot_data.images import SUFFIXES, ImageFiles, find_images, visible
from fewshot_data.raw import RawDataset
from fewshot_data.registry import DatasetSpec
from fewshot_data.sampling import held_out
from fewshot_data.schema import read_options

__all__ = ["open_source", "read_parts"]

OPTIONS = {"path": "", "test_share": 0.2}
SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Part:
    """The images of one split with their class names."""

    paths: list[Path]
    names: list[str]


def open_source(spec: DatasetSpec, *, seed: int) -> RawDataset:
    """Open a folder that holds one folder of images per class.

    With ``train/`` and ``test/`` (or ``val/``) on top, these are the splits; a ``val/`` without
    ``test/`` is what accuracy is measured on. Otherwise a fifth of each class (option
    ``test_share``), at least one image, is put aside by ``seed`` as the test set. Nothing is
    written; images are decoded when they are used.

    Args:
        spec: Its option ``path`` is the folder.
        seed: Selects the test images where there is no ``test/`` or ``val/``.

    Returns:
        The images, classes in ASCII order of their folder names.

    Raises:
        FileNotFoundError: If the folder is missing or holds no class folder.
        ValueError: If a class folder is empty, there is only one class, or splits disagree.

    Examples:
        >>> import tempfile
        >>> from PIL import Image
        >>> root = Path(tempfile.mkdtemp())
        >>> for name in ("cat", "dog"):
        ...     (root / name).mkdir()
        ...     for number in range(5):
        ...         Image.new("RGB", (8, 8)).save(root / name / f"{number}.png")
        >>> from fewshot_data import load_spec
        >>> raw = open_source(load_spec(root), seed=0)
        >>> raw.class_names, len(raw.train_indices), len(raw.test_indices)
        (('cat', 'dog'), 8, 2)
    """
    options = read_options(spec.options, OPTIONS, owner="source 'folder'")
    root = Path(options["path"]).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(
            f"no folder '{root}': looked for a folder with one folder of images per class"
        )
    parts = read_parts(root)
    return _with_splits(parts) if parts else _unsplit(root, options["test_share"], seed)


def read_parts(root: Path) -> dict[str, _Part]:
    """The images of ``train/``, ``val/`` and ``test/``, if there is a train folder and another one.

    Args:
        root: The folder that holds them.

    Returns:
        By ``train``, ``val`` and ``test``, paths and class names of the images; empty without
        such folders.

    Raises:
        FileNotFoundError: If one holds no class folder.
        ValueError: If a class folder is empty or there is only one class.

    Examples:
        >>> read_parts(Path("."))
        {}
    """
    return {split: _read_classes(folder) for split, folder in _splits(root).items()}


def _splits(root: Path) -> dict[str, Path]:
    """Folders of the splits, if there is a train folder and another one beside it."""
    folders = {entry.name.lower(): entry for entry in visible(root) if entry.is_dir()}
    found: dict[str, Path] = {}
    for split, aliases in SPLIT_NAMES.items():
        alias = next((alias for alias in aliases if alias in folders), None)
        if alias is not None:
            found[split] = folders[alias]
    return found if "train" in found and len(found) > 1 else {}


def _read_classes(folder: Path) -> _Part:
    """All images of the class folders in ``folder``."""
    classes = [entry for entry in visible(folder) if entry.is_dir()]
    if not classes:
        raise FileNotFoundError(
            f"no class folders in '{folder}': put the images of each class into a folder named "
            f"after it, such as '{folder / 'cat' / '1.jpg'}'"
        )
    if len(classes) == 1:
        inside = classes[0]
        deeper = any(entry.is_dir() for entry in visible(inside))
        hint = f"did you mean '{inside}'?" if deeper else "at least two classes are needed"
        raise ValueError(f"only one class folder, '{inside.name}', in '{folder}': {hint}")
    part = _Part([], [])
    for entry in classes:
        images = find_images(entry)
        if not images:
            raise ValueError(
                f"class '{entry.name}' is empty: no image in '{entry}' "
                f"(looked for {', '.join(SUFFIXES)}); add images or remove the folder"
            )
        part.paths.extend(images)
        part.names.extend([entry.name] * len(images))
    return part


def _unsplit(root: Path, test_share: float, seed: int) -> RawDataset:
    """Images without splits: a share of each class becomes the test set."""
    part = _read_classes(root)
    class_names = tuple(sorted(set(part.names)))
    numbers = {name: number for number, name in enumerate(class_names)}
    labels = [numbers[name] for name in part.names]
    pool, test = held_out(labels, test_share, seed=seed, class_names=class_names)
    return RawDataset(ImageFiles(part.paths), labels, class_names, pool, test)


def _with_splits(parts: dict[str, _Part]) -> RawDataset:
    """Images with splits: classes are those of the training folder."""
    class_names = tuple(sorted(set(parts["train"].names)))
    numbers = {name: number for number, name in enumerate(class_names)}
    paths: list[Path] = []
    labels: list[int] = []
    indices: dict[str, list[int]] = {"val": []}
    for split, part in parts.items():
        _compare_classes(split, set(part.names), set(class_names))
        indices[split] = list(range(len(paths), len(paths) + len(part.paths)))
        paths += part.paths
        labels += [numbers[name] for name in part.names]
    if "test" not in indices:
        indices["test"], indices["val"] = indices["val"], []
    return RawDataset(
        ImageFiles(paths), labels, class_names, indices["train"], indices["test"], indices["val"]
    )


def _compare_classes(split: str, names: set[str], known: set[str]) -> None:
    """Refuse classes that nothing teaches, mention classes that nothing tests."""
    extra = sorted(names - known)
    if extra:
        raise ValueError(
            f"class '{extra[0]}' is in the {split} folder but not in the train folder "
            f"({len(extra)} such): the splits must have the same class folders"
        )
    missing = sorted(known - names)
    if missing:
        _log.warning("the %s folder has no images of %d classes: %s", split, len(missing), missing)
