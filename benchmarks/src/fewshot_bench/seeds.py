"""One seed in, four independent streams out.

The streams depend on the run's seed alone and not on the method, the backbone or the number of
shots. So every method of a comparison sees the same images in the same order (a paired
comparison), and changing what one stream feeds leaves the other three where they were.
"""

import hashlib
from dataclasses import dataclass

__all__ = ["Seeds", "derive"]


@dataclass(frozen=True)
class Seeds:
    """The seeds of one run, as recorded in its result file."""

    split: int
    """Which images are the test set and which are the shots; protocols other than `nested` take
    the run's own seed instead, because published draws are known by it."""
    init: int
    """Random weights: heads, adapter factors, and the backbone of the random control."""
    support: int
    """Which entries a sparse optimizer may change."""
    order: int
    """The order of the batches, and noise inside the model during training (dropout)."""


def derive(seed: int) -> Seeds:
    r"""Derive the four streams of a run.

    $$s_\text{name} = \operatorname{SHA256}(\text{name} : \text{seed}) \bmod 2^{32}$$

    Args:
        seed: The run's seed, as given on the command line.

    Returns:
        Four seeds below $2^{32}$, the range that every library accepts.

    Examples:
        >>> derive(0) == derive(0), derive(0).split == derive(1).split
        (True, False)
    """
    return Seeds(**{name: _stream(name, seed) for name in ("split", "init", "support", "order")})


def _stream(name: str, seed: int) -> int:
    """Hash a stream's name and the seed to 32 bits, the same on every platform."""
    digest = hashlib.sha256(f"{name}:{seed}".encode()).digest()
    return int.from_bytes(digest[:4], "little")
