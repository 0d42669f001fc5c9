"""Image files as a lazy sequence: decoded by content, converted to RGB, named when broken."""

import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ImageFiles", "find_images", "read_image", "visible"]

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm"),
)
STRAY = frozenset({"thumbs.db", "desktop.ini", "readme.txt", "__macosx"})


class ImageFiles(Sequence["Image"]):
    """Image files that are decoded when they are asked for.

    Args:
        paths: The files.

    Raises:
        ValueError: On access, if a file cannot be decoded; the file is named.

    Examples:
        >>> len(ImageFiles([Path("cat.jpg")]))
        1
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index):  # type: ignore[override]  # no slices: nobody takes them
        """The image at ``index``, RGB."""
        return read_image(self.paths[index])


def read_image(path: Path) -> "Image":
    """Decode one image and convert it to RGB; the suffix is not trusted, EXIF is not applied.

    Args:
        path: The file.

    Returns:
        The image in mode ``RGB``. Of 16-bit grey values the high byte is taken, because Pillow's
        own conversion would turn nearly all of them into white.

    Raises:
        ValueError: If the file is missing, is no image, or is truncated.

    Examples:
        >>> read_image(Path("a.png"))
        Traceback (most recent call last):
        ValueError: cannot read image 'a.png' (No such file or directory): restore or remove it
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return _rgb(image)
    except UnidentifiedImageError as error:
        raise _unreadable(path, "not an image that Pillow knows") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        raise _unreadable(path, getattr(error, "strerror", None) or str(error)) from error
    except Image.DecompressionBombError as error:
        raise _unreadable(path, str(error)) from error


def find_images(folder: Path) -> list[Path]:
    """All image files below a folder, in ASCII order; links are followed, hidden files are not.

    Args:
        folder: Where to look; folders inside it are searched as well.

    Returns:
        Paths below ``folder``, as found on disk.

    Examples:
        >>> find_images(Path("no such folder"))
        []
    """
    return sorted(
        (path for path in _walk(folder, frozenset()) if path.suffix.lower() in SUFFIXES),
        key=lambda path: path.relative_to(folder).as_posix(),
    )


def visible(folder: Path) -> list[Path]:
    """What a folder holds without hidden and stray files, in ASCII order.

    Args:
        folder: The folder.

    Returns:
        Its entries, except those that systems and archives leave behind.

    Examples:
        >>> all(not entry.name.startswith(".") for entry in visible(Path.cwd()))
        True
    """
    entries = (entry for entry in folder.iterdir() if not entry.name.startswith("."))
    return sorted(entry for entry in entries if entry.name.lower() not in STRAY)


def _walk(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    """Files below a folder; a link back to a folder that leads here is not entered again."""
    real = os.path.realpath(folder)
    if real in above or not folder.is_dir():
        return
    for entry in visible(folder):
        if entry.is_dir():
            yield from _walk(entry, above | {real})
        else:
            yield entry


def _rgb(image: "Image") -> "Image":
    """The image in mode RGB."""
    from PIL import Image

    if image.mode.startswith("I"):
        import numpy as np

        high = np.clip(np.asarray(image) >> 8, 0, 255).astype(np.uint8)
        return Image.fromarray(high).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # the same colours, without Pillow's warning
    return image.convert("RGB")


def _unreadable(path: Path, reason: str) -> ValueError:
    """The error for a file that cannot be decoded."""
    return ValueError(f"cannot read image '{path}' ({reason}): restore or remove it")
