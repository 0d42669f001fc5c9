"""Small folders and files in the shapes that people have, made for each test."""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

# A busy machine is no failure: examples are not timed, the whole session is.
settings.register_profile("fewshot-data", deadline=None)
settings.load_profile("fewshot-data")


def draw(path: Path, seed: int = 0, size: tuple[int, int] = (12, 10), mode: str = "RGB") -> None:
    """Save one image of random pixels; the suffix says the format."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.fixture
def image_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder of class folders from class sizes."""

    def make(sizes: Mapping[str, int], root: str = "data", start: int = 0) -> Path:
        for number, (name, size) in enumerate(sizes.items()):
            for image in range(size):
                draw(tmp_path / root / name / f"{image}.png", seed=start + 1000 * number + image)
        return tmp_path / root

    return make


@pytest.fixture
def text_file(tmp_path: Path) -> Callable[..., Path]:
    """Makes a CSV file from a header and rows."""

    def make(rows: list[tuple[object, ...]], header: tuple[str, ...] = ("text", "label")) -> Path:
        path = tmp_path / "data.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])
        return path

    return make


@pytest.fixture
def moods() -> list[tuple[object, ...]]:
    """Sixteen texts of different length with two labels."""
    good = [("fine " * (1 + n), "good") for n in range(9)]
    return [*good, *((f"no {n}", "bad") for n in range(7))]
