"""Ways to read a folder of images into batches: torchvision's, and ours with and without memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["READERS", "STREAMING", "THEIRS", "Reading", "check_pixels"]

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
THEIRS = "ImageFolder"
STREAMING = "fewshot-data, nothing kept"
SIZE = 224


@dataclass(frozen=True)
class Reading:
    """What is read.

    Args:
        root: A folder with `train/` and `test/`.
        split: Which of them.
        images: How many are in it.
        classes: In how many folders.
        batch: Images in a batch.
        workers: Processes.
        passes: Over the images.
    """

    root: Path
    split: str
    images: int
    classes: int
    batch: int
    workers: int
    passes: int


def image_folder(reading: Reading) -> Iterator[Tensor]:
    """Read as most training programs do: torchvision's folder and transforms, torch's loader.

    Args:
        reading: What.

    Yields:
        Batches of images.
    """
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import Compose, Normalize, ToTensor

    train = reading.split == "train"
    steps = [*(_crop_flip() if train else _centre()), ToTensor(), Normalize(MEAN, STD)]
    loader = DataLoader(
        ImageFolder(str(reading.root / reading.split), Compose(steps)),
        batch_size=reading.batch,
        shuffle=train,
        num_workers=reading.workers,
        persistent_workers=reading.workers > 0,
        generator=torch.Generator().manual_seed(0),
    )
    for _ in range(reading.passes):
        for images, _ in loader:
            yield images


def _crop_flip() -> list:
    """What CoOp, CLIP-LoRA and SO train with."""
    from torchvision.transforms import InterpolationMode, RandomHorizontalFlip, RandomResizedCrop

    bicubic = InterpolationMode.BICUBIC
    return [RandomResizedCrop(SIZE, (0.08, 1.0), interpolation=bicubic), RandomHorizontalFlip()]


def _centre() -> list:
    """What they test with."""
    from torchvision.transforms import CenterCrop, InterpolationMode, Resize

    return [Resize(SIZE, InterpolationMode.BICUBIC), CenterCrop(SIZE)]


def _ours(memory: int | None, exact: bool) -> Callable[[Reading], Iterator[Tensor]]:
    """Read with fewshot-data."""

    def read(reading: Reading) -> Iterator[Tensor]:
        from fewshot_data import few_shot
        from fewshot_data.harness import harness_transforms
        from fewshot_data.loading import Loading

        both = harness_transforms("clip", SIZE, MEAN, STD, exact=exact)
        data = few_shot(reading.root, reading.images // reading.classes, seed=0)
        data = data.with_transform(both, Loading(memory=memory))
        if reading.split == "train":
            batches = data.train_batches(reading.batch, seed=0, workers=reading.workers)
            count = -(-reading.images // reading.batch) * reading.passes
            for batch in islice(batches, count):
                yield batch["image"]
            return
        for _ in range(reading.passes):
            for batch in data.test_batches(reading.batch, workers=reading.workers):
                yield batch["image"]

    return read


READERS: dict[str, Callable[[Reading], Iterator[Tensor]]] = {
    THEIRS: image_folder,
    STREAMING: _ours(0, exact=True),
    "fewshot-data": _ours(None, exact=True),
    "fewshot-data, exact=False": _ours(None, exact=False),
}
"""Name to what reads."""


def check_pixels(reading: Reading) -> None:
    """See that both give the same numbers, where nothing is drawn.

    Args:
        reading: What is read; its split is ignored.

    Raises:
        ValueError: A batch differs.
    """
    from dataclasses import replace

    once = replace(reading, split="test", passes=1)
    both = zip(image_folder(once), READERS["fewshot-data"](once), strict=True)
    if not all(torch.equal(theirs, ours) for theirs, ours in both):
        raise ValueError("the two readers give different pixels: there is nothing to compare")
