"""Real handwritten digits: the 1,797 images that scikit-learn ships, the embedded target.

The file is read where scikit-learn keeps it, without importing scikit-learn, which takes longer
than a whole few-shot run.
"""

from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from fewshot_data.installed import installed_path
from fewshot_data.raw import RawDataset
from fewshot_data.schema import read_options

if TYPE_CHECKING:
    from fewshot_data.registry import DatasetSpec

__all__ = ["TEST_IMAGES", "open_source"]

TEST_IMAGES = 800
"""Test images that a seed sets aside; the other 997 are what shots are drawn from."""

INK, SIZE = 24, 32  # side of the enlarged digit and of the cell it is centred in, pixels
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def open_source(spec: "DatasetSpec", *, seed: int) -> RawDataset:
    """Open the digits.

    Args:
        spec: The dataset; it has no options.
        seed: Selects the 800 test images.

    Returns:
        1,797 grey images of 32×32 pixels, white ink on black.

    Raises:
        FileNotFoundError: If scikit-learn is not installed.

    Examples:
        >>> from fewshot_data import load_spec
        >>> len(open_source(load_spec("digits"), seed=0).test_indices)
        800
    """
    read_options(spec.options, {}, owner="source 'digits'")
    images, labels = _images()
    test = set(Random(f"digits test split {seed}").sample(range(len(images)), TEST_IMAGES))
    return RawDataset(
        samples=images,
        labels=labels,
        class_names=tuple(f"digit {name}" for name in NAMES),
        train_indices=[i for i in range(len(images)) if i not in test],
        test_indices=sorted(test),
    )


@lru_cache(maxsize=1)
def _images() -> tuple[list[Image.Image], list[int]]:
    """All images and labels, enlarged once a process."""
    inside = "datasets/data/digits.csv.gz"
    path = installed_path("sklearn", inside, "the digits come with scikit-learn")
    table = np.loadtxt(path, delimiter=",")  # 64 pixels of value 0..16, then the digit
    images = [_enlarged(row.reshape(8, 8)) for row in table[:, :-1]]
    return images, table[:, -1].astype(int).tolist()


def _enlarged(pixels: np.ndarray) -> Image.Image:
    """An 8×8 image of values 0..16 as a 24×24 digit in the middle of a 32×32 cell."""
    small = Image.fromarray(np.round(pixels * (255 / 16)).astype(np.uint8))
    cell = Image.new("L", (SIZE, SIZE))
    edge = (SIZE - INK) // 2
    cell.paste(small.resize((INK, INK), Image.Resampling.BICUBIC), (edge, edge))
    return cell
