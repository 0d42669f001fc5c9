"""Files and folders that appear whole or not at all.

Everything is written beside its destination and renamed over it, so a crash, a full disk or
`kill -9` leaves the old content, or the new, never a half.
"""

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

__all__ = ["check_place", "write_bytes", "write_folder", "write_text"]


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file, whole or not at all.

    Args:
        path: The destination; its folder is created when missing.
        text: The content, written as UTF-8.

    Returns:
        The path.

    Raises:
        OSError: It could not be written; the message says where, and that no file was changed.
    """
    return write_bytes(path, text.encode())


def write_bytes(path: str | Path, content: bytes) -> Path:
    """Write a file, whole or not at all.

    Args:
        path: The destination; its folder is created when missing.
        content: What it is to hold.

    Returns:
        The path.

    Raises:
        OSError: It could not be written; the message says where, and that no file was changed.
    """
    path = Path(path)
    temporary = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # a full network disk may only complain here
        temporary.replace(path)
    except OSError as error:
        raise _explain(path, error) from error
    finally:
        _remove(temporary)
    return path


def write_folder(path: str | Path, fill: Callable[[Path], None]) -> Path:
    """Write a folder, whole or not at all, in place of an earlier one.

    Args:
        path: The destination.
        fill: Writes the files into the temporary folder that it is given.

    Returns:
        The path.

    Raises:
        OSError: It could not be written; what was there before is still there.
    """
    path = Path(path)
    temporary, old = _beside(path), _beside(path)
    try:
        temporary.mkdir(parents=True)
        fill(temporary)
        if path.exists():
            path.replace(old)
        temporary.replace(path)
    except OSError as error:
        if old.exists() and not path.exists():
            old.replace(path)
        raise _explain(path, error) from error
    finally:
        _remove(temporary)
        _remove(old)
    return path


def check_place(path: str | Path) -> None:
    """Notice that a file or folder cannot be made before any work is spent on its content.

    Args:
        path: The destination; folders above it are created when missing.

    Raises:
        OSError: It cannot be made; the message says where and why.
    """
    temporary = _beside(Path(path))
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise _explain(Path(path), error) from error
    finally:
        _remove(temporary)


def _beside(path: Path) -> Path:
    """Name a hidden temporary neighbour that no other process uses."""
    return path.with_name(f".{path.name[:80]}.{secrets.token_hex(6)}.tmp")


def _remove(path: Path) -> None:
    """Remove a temporary file or folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        path.unlink()


def _explain(path: Path, error: OSError) -> OSError:
    """Say which path failed, why, and what became of what was there."""
    reason = error.strerror or str(error)
    return OSError(
        f"cannot write {path}: {reason}; nothing that was there is lost. "
        "Free some space or choose another output folder, then run the same command again"
    )
