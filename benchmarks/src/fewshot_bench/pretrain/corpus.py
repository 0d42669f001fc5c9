"""What the image recipes read: every source character in the pretraining faces, as one tensor."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from fewshot_data.glyph_characters import source_characters
from fewshot_data.glyph_render import PRETRAINING_FACES, draw

__all__ = ["Corpus", "corpus"]


@dataclass(frozen=True)
class Corpus:
    """Drawings with the character each shows.

    Args:
        images: uint8 `(drawings, 1, 40, 40)`, those of a character side by side.
        labels: Character of every drawing, `(drawings,)`.
        first: Where each character's drawings begin, `(characters,)`.
        faces: How many drawings each character has, `(characters,)`.
        names: Unicode names in lower case.
    """

    images: torch.Tensor
    labels: torch.Tensor
    first: torch.Tensor
    faces: torch.Tensor
    names: tuple[str, ...]

    def drawings(self, index: torch.Tensor) -> torch.Tensor:
        """Some drawings in 0..1.

        Args:
            index: Which, `(batch,)`.

        Returns:
            Float images `(batch, 1, 40, 40)`.
        """
        return self.images[index].float() / 255


@lru_cache(maxsize=1)
def corpus() -> Corpus:
    """Draw the corpus, once a process.

    Returns:
        About 6,600 drawings of 1,387 characters.
    """
    images, labels, names = [], [], []
    for label, character in enumerate(source_characters()):
        drawn = [draw(character.code, face) for face in PRETRAINING_FACES]
        pixels = [torch.from_numpy(np.array(image)) for image in drawn if image is not None]
        images += pixels
        labels += [label] * len(pixels)
        names.append(character.name)
    faces = torch.bincount(torch.tensor(labels))
    return Corpus(
        images=torch.stack(images)[:, None],
        labels=torch.tensor(labels),
        first=faces.cumsum(0) - faces,
        faces=faces,
        names=tuple(names),
    )
