"""Image files as a lazy sequence: decoded by content, converted to RGB, named when broken."""

import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewshot_data.loading import Loading

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ImageFiles", "find_images", "read_image", "visible"]

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm"),
)
_LENIENT = threading.Lock()  # Pillow's switch for truncated files is one for the whole process
STRAY = frozenset({"thumbs.db", "desktop.ini", "readme.txt", "__macosx"})


class ImageFiles(Sequence["Image"]):
    """Image files that are decoded when they are asked for.

    Args:
        paths: The files.
        loading: How they are read; see `Loading`.

    Raises:
        ValueError: On access, if a file cannot be decoded; the file is named.

    Examples:
        >>> len(ImageFiles([Path("cat.jpg")]))
        1
    """

    def __init__(self, paths: Sequence[Path], loading: Loading | None = None) -> None:
        self.paths, self.loading = list(paths), loading or Loading()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index):  # type: ignore[override]  # no slices: nobody takes them
        """The image at ``index``, RGB."""
        loading = self.loading
        return read_image(self.paths[index], truncated=loading.truncated, shrink=loading.shrink)

    def under(self, loading: Loading) -> "ImageFiles":
        """The same files, read in another way.

        Args:
            loading: How.

        Returns:
            A new sequence.

        Examples:
            >>> ImageFiles([Path("cat.jpg")]).under(Loading(truncated=True)).loading.truncated
            True
        """
        return ImageFiles(self.paths, loading)


def read_image(path: Path, *, truncated: bool = False, shrink: int = 0) -> "Image":
    """Decode one image and convert it to RGB; the suffix is not trusted, EXIF is not applied.

    Args:
        path: The file.
        truncated: Whether a file whose end is missing is read as far as it goes; what is missing
            is grey or black then.
        shrink: If not 0, a JPEG file may be decoded at a half, quarter or eighth of its size, as
            long as no side falls below this many pixels. Faster, and the pixels are others.

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
    try:
        return _decode(path, shrink)
    except ValueError:
        if not truncated:
            raise
        return _decode_what_is_there(path, shrink)


def _decode(path: Path, shrink: int) -> "Image":
    """Decode one image; Pillow's readers raise all sorts of errors, which become one."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            if shrink:
                image.draft(None, (shrink, shrink))
            return _rgb(image)
    except UnidentifiedImageError as error:
        raise _unreadable(path, "not an image that Pillow knows") from error
    except Exception as error:
        raise _unreadable(path, getattr(error, "strerror", None) or str(error)) from error


def _decode_what_is_there(path: Path, shrink: int) -> "Image":
    """Decode one image whose end may be missing."""
    from PIL import ImageFile

    with _LENIENT:
        before: Any = ImageFile.LOAD_TRUNCATED_IMAGES
        setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # noqa: B010  # declared to be False
        try:
            return _decode(path, shrink)
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before


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

    if image.mode == "RGB":
        image.load()  # converting would copy it
        return image
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
