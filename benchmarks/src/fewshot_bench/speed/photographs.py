"""Images to measure reading with: smooth colours with noise, as JPEG files in class folders."""

from pathlib import Path

import numpy as np

__all__ = ["make_photographs"]

CELL = 16
NOISE = 8.0
QUALITY = 90


def make_photographs(root: Path, classes: int, each: int, width: int, height: int) -> Path:
    """Write `train/` and `test/` with as many images in each.

    Args:
        root: The folder.
        classes: Folders in each of both.
        each: Images in each class folder.
        width: Of an image, pixels.
        height: Of an image, pixels.

    Returns:
        The folder.
    """
    draw = np.random.default_rng(0)
    for split in ("train", "test"):
        for number in range(classes):
            folder = root / split / f"class {number:03}"
            folder.mkdir(parents=True)
            for image in range(each):
                _photograph(draw, width, height).save(folder / f"{image}.jpg", quality=QUALITY)
    return root


def _photograph(draw: np.random.Generator, width: int, height: int):
    """Draw one image: about as many bytes as a photograph of that size."""
    from PIL import Image

    cells = height // CELL + 1, width // CELL + 1, 3
    small = Image.fromarray(draw.integers(0, 256, cells, dtype=np.uint8))
    smooth = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
    noisy = smooth + draw.normal(0, NOISE, smooth.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
