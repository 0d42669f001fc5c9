"""Is this the data that published numbers were made on? The published draws, made again."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from fewshot_data.protocols import draw
from fewshot_data.published_draws import DRAWS, SHOTS, draw_hash
from fewshot_data.registry import DatasetSpec
from fewshot_data.sources import open_source

__all__ = ["Verified", "verify_split"]


@dataclass(frozen=True)
class Verified:
    """One draw beside the published one.

    Args:
        protocol: ``"coop"`` or ``"so"``.
        seed: Of the draw.
        split: ``"train"`` or ``"val"``.
        found: Its hash.
        published: The published hash.
    """

    protocol: str
    seed: int
    split: str
    found: str
    published: str

    @property
    def same(self) -> bool:
        """Whether the same samples were drawn."""
        return self.found == self.published


def verify_split(spec: DatasetSpec, root: str | Path) -> tuple[Verified, ...]:
    """Draw 16 shots as CoOp and SO do, and compare with what they drew.

    Images are not needed: the split file alone decides.

    Args:
        spec: One of the datasets of `fewshot_data.published_draws.DRAWS`.
        root: The folder of all datasets or this dataset's own.

    Returns:
        One comparison for each published hash.

    Raises:
        ValueError: If no draws of this dataset are published.
        FileNotFoundError: If the split file is missing.

    Examples:
        >>> from fewshot_data import load_spec
        >>> verify_split(load_spec("digits"), "/data")
        Traceback (most recent call last):
        ValueError: no published draws of 'digits' are known: there are those of caltech101, ...
    """
    if spec.name not in DRAWS:
        known = ", ".join(sorted(DRAWS))
        raise ValueError(
            f"no published draws of '{spec.name}' are known: there are those of {known}"
        )
    options = {**spec.options, "files": "none"}
    raw = open_source(dataclasses.replace(spec, options=options).at(root), seed=1)
    found = []
    for protocol, pairs in DRAWS[spec.name].items():
        for seed, published in enumerate(pairs, 1):
            drawn = draw(raw, protocol, SHOTS, seed=seed)
            for split, indices, wanted in zip(("train", "val"), drawn, published, strict=True):
                if wanted:
                    summed = draw_hash((raw.names[i], raw.labels[i]) for i in indices)
                    found.append(Verified(protocol, seed, split, summed, wanted))
    return tuple(found)
