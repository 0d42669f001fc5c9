"""Rendered characters as few-shot targets: unseen scripts, an unseen style, unseen compositions."""

import math
from collections.abc import Sequence
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING

from PIL import Image

from fewshot_data.character_names import Character
from fewshot_data.glyph_characters import compositions, script_letters, source_characters
from fewshot_data.glyph_render import FACES, STYLES, draw
from fewshot_data.raw import RawDataset
from fewshot_data.sampling import held_out
from fewshot_data.schema import read_options

if TYPE_CHECKING:
    from fewshot_data.registry import DatasetSpec

__all__ = ["Drawings", "open_source"]

SIZE = 32
DEFAULTS = {
    "characters": "source",
    "script": "",
    "style": "plain",
    "images": 40,
    "test_share": 0.4,
}


class Drawings(Sequence[Image.Image]):
    """Drawn images, made when they are first looked at and then remembered.

    Args:
        keys: Code point, face and copy of every image.
        style: One of `glyph_render.STYLES`.

    Examples:
        >>> Drawings([(ord("A"), "DejaVuSans", 0)], "plain")[0].size
        (32, 32)
    """

    def __init__(self, keys: Sequence[tuple[int, str, int]], style: str) -> None:
        self.keys, self.style = tuple(keys), style

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index):  # type: ignore[override]
        return _copy(*self.keys[index], self.style)


def open_source(spec: "DatasetSpec", *, seed: int) -> RawDataset:
    """Open a glyph dataset.

    Args:
        spec: The dataset. Options: ``characters`` is ``"source"`` (what pretraining sees),
            ``"compositions"`` or ``"script"``, which needs ``script``; ``style`` is ``"plain"``
            or ``"outline"``; ``images`` is the number of images per class, in every face in turn,
            each jittered anew; ``test_share`` is the share of each class that is tested on.
        seed: Selects the test images.

    Returns:
        Grey images of 32×32 pixels, white ink on black; class names are Unicode names.

    Raises:
        ValueError: If an option is unknown or has a value that it cannot take.
        FileNotFoundError: If matplotlib's fonts are not installed.

    Examples:
        >>> from fewshot_data import load_spec
        >>> open_source(load_spec("glyphs-georgian"), seed=0).class_names[0]
        'georgian letter an'
    """
    options = read_options(spec.options, DEFAULTS, owner="source 'glyphs'")
    _check(options)
    chosen = _characters(options["characters"], options["script"])
    keys, labels = _keys(chosen, options["images"])
    names = tuple(character.name for character in chosen)
    pool, test = held_out(labels, options["test_share"], seed=seed, class_names=names)
    return RawDataset(Drawings(keys, options["style"]), labels, names, pool, test)


def _check(options: dict) -> None:
    """Refuse values that no drawing has."""
    if options["style"] not in STYLES:
        raise ValueError(f"unknown style '{options['style']}': known: {', '.join(STYLES)}")
    if options["images"] < 2:
        raise ValueError(f"images is {options['images']}: give at least 2 per class")


def _characters(which: str, script: str) -> tuple[Character, ...]:
    """The classes."""
    if which == "script":
        return script_letters(script)
    if which == "compositions":
        return compositions()
    if which == "source":
        return source_characters()
    raise ValueError(f"unknown characters '{which}': known: source, compositions, script")


def _keys(chosen: Sequence[Character], images: int) -> tuple[list[tuple[int, str, int]], list[int]]:
    """As many images of every character: its faces in turn, each time as another copy."""
    keys, labels = [], []
    for label, character in enumerate(chosen):
        faces = [face for face in FACES if draw(character.code, face) is not None]
        turns = (divmod(number, len(faces)) for number in range(images))
        keys += [(character.code, faces[face], copy) for copy, face in turns]
        labels += [label] * images
    return keys, labels


@lru_cache(maxsize=20_000)
def _copy(code: int, face: str, copy: int, style: str) -> Image.Image:
    """One image: turned, sheared, scaled and shifted a little, by an amount its key decides."""
    drawing = draw(code, face, style)
    if drawing is None:
        raise ValueError(f"face {face} cannot draw U+{code:04X}")
    random = Random(f"{code}:{face}:{copy}")
    angle, shear = random.uniform(-0.08, 0.08), random.uniform(-0.08, 0.08)
    scale = math.exp(random.uniform(-0.1, 0.1))
    dx, dy = random.uniform(-1.5, 1.5), random.uniform(-1.5, 1.5)
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    a, b, d, e = cos, shear * cos - sin, sin, shear * sin + cos
    centre, middle = SIZE / 2, drawing.width / 2
    c = middle + dx - a * centre - b * centre
    f = middle + dy - d * centre - e * centre
    size = (SIZE, SIZE)
    return drawing.transform(
        size, Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR
    )
