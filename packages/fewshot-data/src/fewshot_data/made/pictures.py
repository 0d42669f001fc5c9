"""Pictures of made-up datasets: small, coloured by class, some of them odd as real ones are."""

from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ODD_MODES", "picture", "write_odd_pictures", "write_picture"]

SIZE = (48, 40)  # not square, so that height and width cannot be mixed up
ODD_MODES = {"L": "JPEG", "RGBA": "PNG", "CMYK": "JPEG"}
"""Modes that readers must convert, and the format that can hold each, whatever the suffix."""


def picture(label: int, rng: Random) -> "Image":
    """A picture in the colour of its class, with a little noise.

    Args:
        label: Class number; neighbours have quite different colours.
        rng: Of the noise.

    Returns:
        48 by 40 pixels, RGB.

    Examples:
        >>> picture(3, Random(0)).size
        (48, 40)
    """
    from PIL import Image

    colour = [(60 + 97 * label) % 216, (150 + 61 * label) % 216, (20 + 151 * label) % 216]
    noise = rng.randbytes(SIZE[0] * SIZE[1])
    pixels = bytes(colour[at % 3] + noise[at // 3] % 40 for at in range(3 * len(noise)))
    return Image.frombytes("RGB", SIZE, pixels)


def write_picture(path: Path, label: int, rng: Random, *, mode: str = "RGB") -> None:
    """Save a picture, as JPEG of quality 90, or as PNG where JPEG cannot hold the mode.

    Args:
        path: The file; its folder is made if it is missing.
        label: Class number.
        rng: Of the noise.
        mode: ``"RGB"`` or one of `ODD_MODES`.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.jpg"
        >>> write_picture(path, 0, Random(0), mode="RGBA")
        >>> path.read_bytes()[1:4]
        b'PNG'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    settings = {"format": ODD_MODES.get(mode, "JPEG"), "quality": 90}
    picture(label, rng).convert(mode).save(path, **settings)


def write_odd_pictures(paths: list[Path], labels: list[int], rng: Random) -> None:
    """Make some pictures of a set odd: grey, CMYK, PNG under another suffix; and a stray file.

    Args:
        paths: Pictures to write over, as many as there are `ODD_MODES` or more.
        labels: Their classes.
        rng: Of the noise.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_odd_pictures([folder / f"{n}.jpg" for n in range(3)], [0, 1, 2], Random(0))
        >>> sorted(path.name for path in folder.iterdir())
        ['.DS_Store', '0.jpg', '1.jpg', '2.jpg']
    """
    for mode, path, label in zip(ODD_MODES, paths, labels, strict=False):
        write_picture(path, label, rng, mode=mode)
    for folder in {path.parent for path in paths[: len(ODD_MODES)]}:
        (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
