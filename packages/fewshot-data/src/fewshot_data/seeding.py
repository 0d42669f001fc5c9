"""Randomness of one sample: from the seed, the pass and the position, whoever prepares it."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from fewshot_data.transforms import Seeded

__all__ = ["drawing", "sample_seed"]

_STREAM = 0x5EED_C20B
"""Sets augmentation apart from the order of samples, which has the same seed."""


def sample_seed(seed: int, epoch: int, position: int) -> int:
    """The seed of what is drawn for one sample in one pass.

    Args:
        seed: Of the run.
        epoch: Number of the pass.
        position: Of the sample in its split.

    Returns:
        64 bits that depend on all three.

    Examples:
        >>> sample_seed(1, 0, 7) == sample_seed(1, 0, 7) != sample_seed(1, 1, 7)
        True
    """
    import numpy as np

    words = [_STREAM, seed % 2**64, epoch, position]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])


@contextmanager
def drawing(transform: Any, seed: int) -> Iterator[Any]:
    """Give a random transform the numbers that belong to a seed.

    Args:
        transform: One with a method ``seeded``, as `fewshot_data.pipeline.Pipeline` has; or any
            other, such as torchvision's: then the global generators of torch, Python and NumPy are
            seeded for the moment and put back.
        seed: See `sample_seed`.

    Yields:
        The transform to use inside.

    Examples:
        >>> before = torch.get_rng_state()
        >>> with drawing(lambda sample: sample + float(torch.rand(())), seed=0) as transform:
        ...     3 < transform(3) < 4
        True
        >>> bool(torch.equal(torch.get_rng_state(), before))
        True
    """
    if isinstance(transform, Seeded):
        yield transform.seeded(torch.Generator().manual_seed(seed))
        return
    with _global_seed(seed):
        yield transform


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    """Seed the global generators, and put them back afterwards."""
    import numpy as np

    before = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    # Of torch the processor's generator only: seeding a GPU's would wait for it.
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        yield
    finally:
        torch.set_rng_state(before[0])
        random.setstate(before[1])
        np.random.set_state(before[2])  # noqa: NPY002
