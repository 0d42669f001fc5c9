"""Where GLUE lies: below the data's root, or in a cache of the Hugging Face libraries."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from fewshot_data.layout import find_folder
from fewshot_data.registry import DatasetSpec
from fewshot_data.rows import SUFFIXES
from fewshot_data.text_splits import find_split_files

__all__ = ["find_glue"]

CACHES = ("nyu-mll___glue/{}/*/*", "glue/{}/*/*")
SNAPSHOTS = ("datasets--nyu-mll--glue/snapshots/*/{}", "datasets--glue/snapshots/*/{}")


def find_glue(spec: DatasetSpec, split: Sequence[str]) -> Path:
    """The folder of one task.

    Below ``spec.root`` it is found by its names; the root may also be a cache of the ``datasets``
    library or a snapshot folder of the hub. Without a root, the caches of this machine are
    searched. The network is never asked.

    Args:
        spec: The task.
        split: Names of a split that must be there, the preferred one first.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: If it is nowhere; the message lists what was tried.
    """
    roots = [spec.root] if spec.root else _caches()
    for folder in _cached(spec.folders[0], roots):
        if find_split_files(folder, split):
            return folder
    if spec.root is None:
        raise FileNotFoundError(
            f"'{spec.name}' is in no cache of the Hugging Face libraries "
            f"({', '.join(map(str, roots))}): give root=, the folder that holds "
            f"{spec.folders[0]}/, or set FEWSHOT_DATA_ROOT; homes: {', '.join(spec.homes)}"
        )
    return find_folder(spec, marks=_marks(split))


def _marks(split: Sequence[str]) -> list[str]:
    """Paths that prove that a folder holds the task."""
    saved = [f"{alias}/{file}" for alias in split for file in ("state.json", "dataset_info.json")]
    files = [f"{alias}{suffix}" for alias in split for suffix in SUFFIXES]
    parts = [f"{alias}-00000-of-00001.parquet" for alias in split]
    others = [f"glue-{alias}.arrow" for alias in split]  # the cache of the library
    others += [f"{alias}/0000.parquet" for alias in split]  # the hub's own conversion
    return [*saved, *parts, *files, *others, *(f"data/{file}" for file in (*parts, *files))]


def _cached(name: str, roots: Sequence[Path]) -> Iterator[Path]:
    """Folders of the task in caches, the newest first."""
    for root in roots:
        for pattern in (*CACHES, *SNAPSHOTS):
            found = root.glob(pattern.format(name)) if root.is_dir() else ()
            yield from sorted(filter(Path.is_dir, found), key=lambda path: -path.stat().st_mtime)


def _caches() -> list[Path]:
    """The caches of this machine, as the Hugging Face libraries choose them."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    home = Path(os.environ.get("HF_HOME", cache / "huggingface")).expanduser()
    tables = os.environ.get("HF_DATASETS_CACHE", home / "datasets")
    snapshots = os.environ.get("HF_HUB_CACHE", home / "hub")
    return [Path(tables).expanduser(), Path(snapshots).expanduser()]
