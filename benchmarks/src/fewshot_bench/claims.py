"""Who is at which run: sweeps that write to one folder do not do the same run twice.

A claim is a lock of the operating system on a file in `<out>/.claims`. It ends with the process
that holds it, however that ends, so there is nothing to clear away and no clock to trust.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["claim"]


@contextmanager
def claim(out: Path, name: str) -> Iterator[bool]:
    """Claim a run for as long as the block lasts.

    Args:
        out: The folder of the results.
        name: Of the run.

    Yields:
        Whether the claim was granted; false when another process holds it.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, claim(Path(folder), "run") as mine:
        ...     with claim(Path(folder), "run") as again:
        ...         print(mine, again)
        True False
    """
    place = out / ".claims" / f"{name}.lock"
    place.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place, is_singleton=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        # Removed while it is held: whoever has it open already finds the run done afterwards.
        place.unlink(missing_ok=True)
        lock.release()
