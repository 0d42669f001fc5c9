"""Where datasets lie on this machine: known to a process and its workers, and never recorded."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["current_root", "data_root"]

VARIABLE = "FEWSHOT_DATA_ROOT"
"""What `fewshot_data.few_shot` reads where no root is given; processes inherit it."""


def current_root() -> str:
    """Say where datasets are looked for.

    Returns:
        The folder, or an empty string where none is known.

    Examples:
        >>> with data_root(Path(".")):
        ...     current_root() == str(Path(".").absolute())
        True
    """
    return os.environ.get(VARIABLE, "")


@contextmanager
def data_root(root: Path | None) -> Iterator[None]:
    """Look for datasets in a folder, here and in the processes that are started meanwhile.

    The folder is not part of a `RunConfig`, so a run has the same name and the same record on
    every machine.

    Args:
        root: The folder that holds all datasets, or the one dataset's own; `None` leaves the
            environment variable as it is.

    Yields:
        Nothing.

    Raises:
        FileNotFoundError: There is no such folder.

    Examples:
        >>> with data_root(Path("no such folder")):
        ...     pass
        Traceback (most recent call last):
        FileNotFoundError: --root is 'no such folder': there is no such folder
    """
    if root is None:
        yield
        return
    folder = root.expanduser().absolute()
    if not folder.is_dir():
        raise FileNotFoundError(f"--root is '{root}': there is no such folder")
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(folder)
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before
