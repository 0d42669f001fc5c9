"""Where a dataset's folder is below the root that the user names, however it is spelled."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fewshot_data.registry import DatasetSpec

__all__ = ["find_folder"]

SHOWN = 12  # paths and marks that a message lists, each


def find_folder(spec: DatasetSpec, *, marks: Sequence[str]) -> Path:
    """Find the folder that holds a dataset.

    A folder is the dataset's if one of ``marks`` is in it. Looked at, in this order, until one is:

    1. the folders that the spec names, below the root, spelled exactly so;
    2. the same, whatever their case and whatever ``-``, ``_`` and spaces they have;
    3. the root itself, for it may be the dataset's own folder;
    4. one level deeper, as in ``dtd/dtd``, or below any folder of the root;
    5. one level higher: the folder that holds the root, and the named folders in it.

    Where two folders qualify at once, the one with the earlier mark is taken. Links are followed
    and stay what they are called; nothing is written.

    Args:
        spec: The dataset, with a root.
        marks: Paths below the folder any of which proves it, the best proof first.

    Returns:
        The folder, as it is spelled on disk.

    Raises:
        FileNotFoundError: If no folder has any mark; the message lists what was tried and where
            the data can be had.
        ValueError: If two folders have the same claim; both are named.

    Examples:
        >>> import tempfile
        >>> from fewshot_data import load_spec
        >>> root = Path(tempfile.mkdtemp())
        >>> (root / "glue_data" / "RTE").mkdir(parents=True)
        >>> _ = (root / "glue_data" / "RTE" / "dev.tsv").write_text("")
        >>> find_folder(load_spec("rte").at(root), marks=["dev.tsv"]).relative_to(root)
        PosixPath('glue_data/RTE')
    """
    if spec.root is None:
        raise FileNotFoundError(
            f"'{spec.name}' lies on disk, and no root was given: pass root= (--root), the folder "
            f"that holds {_either(spec.folders)}, or set FEWSHOT_DATA_ROOT{_sources(spec)}"
        )
    tried: dict[Path, None] = {}
    for tier in _tiers(spec.root, spec.folders):
        new = [folder for folder in dict.fromkeys(tier) if folder not in tried]
        tried.update(dict.fromkeys(new))
        ranked = [(_rank(folder, marks), folder) for folder in new]
        best = min((rank for rank, _ in ranked), default=len(marks))
        if best < len(marks):
            return _only([folder for rank, folder in ranked if rank == best], spec)
    raise FileNotFoundError(
        f"no folder of '{spec.name}' below '{spec.root}': tried {_listed(map(str, tried))}, "
        f"looking for {_listed(marks)} in each{_sources(spec)}"
    )


def _tiers(root: Path, names: Sequence[str]) -> Iterator[list[Path]]:
    """Candidates in the order of preference, made as they are needed."""
    exact = [root / name for name in names]
    yield exact
    alike = [folder for name in names for folder in _alike(root, name)]
    yield alike
    yield [root]
    deeper = [inner for folder in (*exact, *alike) for inner in _folders(folder)]
    deeper += [inner / name for inner in _folders(root) for name in names]
    deeper += [
        folder for inner in _folders(root) for name in names for folder in _alike(inner, name)
    ]
    yield deeper
    above = root.absolute().parent if root.name in ("", "..") else root.parent
    yield [above]
    yield [above / name for name in names]


def _alike(root: Path, name: str) -> list[Path]:
    """Folders below the root whose path differs from the name in case and separators only."""
    found = [root]
    for part in name.split("/"):
        wanted = _plain(part)
        found = [
            inner for folder in found for inner in _folders(folder) if _plain(inner.name) == wanted
        ]
    return found


def _folders(folder: Path) -> list[Path]:
    """Folders in a folder in ASCII order, without hidden ones; none where it cannot be read."""
    try:
        return sorted(e for e in folder.iterdir() if not e.name.startswith(".") and e.is_dir())
    except OSError:
        return []


def _plain(name: str) -> str:
    """A name without case and separators."""
    return name.lower().translate(str.maketrans("", "", "-_ "))


def _rank(folder: Path, marks: Sequence[str]) -> int:
    """Which mark is the first that a folder has; the number of marks if it has none."""
    return next((at for at, mark in enumerate(marks) if (folder / mark).exists()), len(marks))


def _only(found: Sequence[Path], spec: DatasetSpec) -> Path:
    """The one folder, or the first of several names for it."""
    others = [folder for folder in found[1:] if not folder.samefile(found[0])]
    if others:
        raise ValueError(
            f"'{spec.name}' may be '{found[0]}' or '{others[0]}': give the one you mean as root "
            "(--root), or rename the other"
        )
    return found[0]


def _either(names: Sequence[str]) -> str:
    """Folder names as a choice."""
    return " or ".join(f"{name}/" for name in names) or "the dataset"


def _listed(entries: Iterable[str]) -> str:
    """Some entries, and how many more there are."""
    every = list(entries)
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return ", ".join(every[:SHOWN]) + more


def _sources(spec: DatasetSpec) -> str:
    """Where the data can be had."""
    return f"; homes: {', '.join(spec.homes)}" if spec.homes else ""
