"""The published SO optimizer, loaded from a clone that the user names; nothing of it is kept here.

Its sort of index pairs relies on a stable second sort and does not ask for one, which on a CPU
pairs moments with foreign gradients; that one function is replaced at load time.
"""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor

__all__ = ["PLACE", "find_in_clone", "load_release", "released_file", "stable_lexsort"]

PLACE = Path("optimizers") / "SparseOptimizer.py"
"""Where the optimizer's file lies in the repository nairouz/SO."""


def load_release(path: Path) -> type[Any]:
    """Load the optimizer class and make its sort stable.

    Args:
        path: A clone of nairouz/SO, or the file itself.

    Returns:
        The class `SO` of the release.

    Raises:
        ValueError: The file is not there, or is another one.
    """
    file = released_file(path)
    module = _import(file)
    if not (hasattr(module, "SO") and hasattr(module, "lexsort_indices")):
        raise ValueError(f"--release {path}: {file.name} has no SO with lexsort_indices")
    vars(module)["lexsort_indices"] = stable_lexsort
    return module.SO


def released_file(path: Path) -> Path:
    """Find the optimizer's file.

    Args:
        path: A clone of nairouz/SO, or the file itself.

    Returns:
        The file.

    Raises:
        ValueError: It is not there.
    """
    return find_in_clone(path, PLACE, "--release", "nairouz/SO")


def find_in_clone(path: Path, place: Path, option: str, project: str) -> Path:
    """Find a file of somebody else's repository.

    Args:
        path: A clone, or the file itself.
        place: Where the file lies in the repository.
        option: What the path was given to.
        project: The repository.

    Returns:
        The file.

    Raises:
        ValueError: It is not there.
    """
    file = path if path.is_file() else path / place
    if not file.is_file():
        raise ValueError(f"{option} {path}: there is no {place}; name a clone of {project}")
    return file


def stable_lexsort(indices: Tensor) -> Tensor:
    """Order index pairs by row, then by column.

    Args:
        indices: Rows and columns, `(2, n)`.

    Returns:
        The order, `(n,)`.

    Examples:
        >>> import torch
        >>> stable_lexsort(torch.tensor([[1, 0, 1], [2, 5, 0]]))
        tensor([1, 2, 0])
    """
    by_column = indices[1].sort(stable=True).indices
    return by_column[indices[0][by_column].sort(stable=True).indices]


def _import(file: Path) -> ModuleType:
    """Import a file under a name that nothing else has."""
    spec = importlib.util.spec_from_file_location("_released_so", file)
    if spec is None or spec.loader is None:
        raise ValueError(f"--release {file}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
