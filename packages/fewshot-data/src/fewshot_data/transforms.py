"""From an image or a text to tensors: normalised explicitly, seeded where random."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch

from fewshot_data.pipeline import Pipeline, per_channel
from fewshot_data.steps import CentreCrop, Flip, RandomResizedCrop, ResizeShorter
from fewshot_data.tokens import Tokenise

__all__ = ["Transforms", "image_transforms", "text_transforms"]

INTERPOLATIONS = ("bicubic", "bilinear", "nearest")


@dataclass(frozen=True)
class Transforms:
    """One transform for training and one for testing.

    Where both are the same object, or the training transform has a true ``fixed``, it is taken to
    be deterministic: it is applied once to each training sample and the result is kept. Otherwise
    the training transform is applied anew each time a sample is drawn.

    Args:
        train: Applied to training samples.
        test: Applied to test and validation samples; deterministic.

    Examples:
        >>> Transforms(train=str.lower, test=str.lower).test("ZERO")
        'zero'
    """

    train: Callable[[Any], Any]
    test: Callable[[Any], Any]


@runtime_checkable
class Seeded(Protocol):
    """A random transform that can be told which generator to draw from."""

    def seeded(self, generator: torch.Generator) -> Callable[[Any], Any]:
        """The same transform, drawing from ``generator``."""
        ...


def image_transforms(
    size: int,
    mean: float | Sequence[float],
    std: float | Sequence[float],
    *,
    channels: int = 3,
    interpolation: str = "bicubic",
    train: str = "same",
) -> Transforms:
    r"""Resize, crop and normalise images to what a backbone expects.

    $$ x = (\text{pixels} / 255 - \text{mean}) / \text{std} $$
    for each channel. Testing resizes the shorter side to ``size`` and takes the centre; an image
    that is ``size × size`` already is not resampled at all.

    Args:
        size: Height and width of the result, pixels.
        mean: What is subtracted from values in 0..1; one number, or one for each channel.
        std: What the difference is divided by; one number, or one for each channel.
        channels: 3 for RGB, 1 for grey.
        interpolation: ``"bicubic"``, ``"bilinear"`` or ``"nearest"``.
        train: ``"same"`` as testing, or ``"crop_flip"``: a random crop of 8 to 100 % of the area
            with sides between 3:4 and 4:3, and a mirror image half of the time.

    Returns:
        Two transforms from ``PIL.Image.Image`` to a float32 tensor ``(channels, size, size)``.

    Raises:
        ValueError: If an argument is not one of those above.

    Examples:
        >>> from PIL import Image
        >>> both = image_transforms(32, mean=0.25, std=0.4)
        >>> tuple(both.test(Image.new("L", (60, 40))).shape)
        (3, 32, 32)
    """
    if size < 1:
        raise ValueError(f"size is {size}: give the side of the image in pixels, such as 224")
    if channels not in (1, 3):
        raise ValueError(f"channels is {channels}: give 3 for RGB or 1 for grey")
    if interpolation not in INTERPOLATIONS:
        known = ", ".join(INTERPOLATIONS)
        raise ValueError(f"unknown interpolation '{interpolation}': known: {known}")
    means, stds = per_channel("mean", mean, channels), per_channel("std", std, channels)
    if any(value <= 0 for value in stds):
        raise ValueError(f"std is {std}: every value must be above 0")
    centre = Pipeline((ResizeShorter(interpolation), CentreCrop()), size, means, stds)
    if train == "same":
        return Transforms(train=centre, test=centre)
    if train == "crop_flip":
        random = (RandomResizedCrop((interpolation,)), Flip())
        return Transforms(train=Pipeline(random, size, means, stds), test=centre)
    raise ValueError(f"unknown train '{train}': known: same, crop_flip")


def text_transforms(
    tokenizer: Callable[..., Mapping[str, Any]],
    *,
    max_length: int | None = None,
    keys: Sequence[str] | None = None,
) -> Transforms:
    """Tokenise texts; padding is left to the batch, so that no text is longer than it must be.

    A sentence is tokenised as ``tokenizer(text)``, a pair as ``tokenizer(first, second)``. Of a
    dict ``{"text": …, "score": 3.8}`` the text is tokenised and numbers are kept as float32.

    Args:
        tokenizer: To a mapping with ``input_ids`` and ``attention_mask``, each a list of integers;
            any Hugging Face tokenizer is one.
        max_length: Cut longer texts to so many tokens, by calling the tokenizer with
            ``truncation=True, max_length=…``; how many were cut is logged as a warning. ``None``
            leaves lengths to the tokenizer.
        keys: Which of the tokenizer's lists to keep; ``None`` keeps all. SO trains BERT with
            ``("input_ids", "attention_mask")``, without token type ids.

    Returns:
        The same transform for training and testing, from a sample to a dict of int64 tensors
        ``(tokens,)``.

    Raises:
        ValueError: If ``max_length`` is below 1.

    Examples:
        >>> both = text_transforms(lambda text: {"input_ids": [7], "attention_mask": [1]})
        >>> both.test("zero")["input_ids"]
        tensor([7])
    """
    if max_length is not None and max_length < 1:
        raise ValueError(f"max_length is {max_length}: give at least 1 token, or None")
    tokenise = Tokenise(tokenizer, max_length, None if keys is None else tuple(keys))
    return Transforms(train=tokenise, test=tokenise)
