"""The image transforms of published training programs, by name."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from fewshot_data.normalisation import statistics
from fewshot_data.pipeline import Pipeline
from fewshot_data.steps import (
    CentreCrop,
    Flip,
    Jitter,
    RandomCrop,
    RandomResizedCrop,
    ResizeShorter,
    Squash,
    SquashFloat,
    Step,
)
from fewshot_data.transforms import Transforms

__all__ = ["HARNESSES", "Harness", "harness_transforms"]


@dataclass(frozen=True)
class Harness:
    """What one family of training programs does to an image.

    Args:
        title: Whose programs.
        train: Steps of training.
        test: Steps of testing.
        normalise: The normalisation of its published runs, for `harness_transforms`.
    """

    title: str
    train: tuple[Step, ...]
    test: tuple[Step, ...]
    normalise: str


_CROP_FLIP = (RandomResizedCrop(("bicubic",)), Flip())
_CENTRE = (ResizeShorter("bicubic"), CentreCrop())
_CENTRE_256 = (ResizeShorter("bilinear", share=0.875), CentreCrop())
_SQUASH = (Squash("bicubic"),)
_SQUASH_FLOAT = (SquashFloat(),)

HARNESSES: dict[str, Harness] = {
    "clip": Harness("CoOp, CLIP-LoRA, SO", _CROP_FLIP, _CENTRE, "clip"),
    "tip-adapter": Harness(
        "Tip-Adapter", (RandomResizedCrop(("bicubic",), area=(0.5, 1.0)), Flip()), _CENTRE, "clip"
    ),
    "snell-fgvc": Harness("SNELL on FGVC", (*_CROP_FLIP, Jitter(0.4)), _CENTRE_256, "imagenet"),
    "snell-fgvc-no-aug": Harness(
        "SNELL on FGVC with --no_aug",
        (RandomResizedCrop(("bilinear",)), Flip()),
        _CENTRE_256,
        "imagenet",
    ),
    "snell-vtab": Harness(
        "SNELL, SPT, NOAH, FacT, Convpass on VTAB-1k", _SQUASH, _SQUASH, "imagenet"
    ),
    "binary-adapter-vtab": Harness("Binary adapters on VTAB-1k", _SQUASH, _SQUASH, "none"),
    "ssf": Harness(
        "SSF on FGVC",
        (RandomResizedCrop(("bilinear", "bicubic")), Flip()),
        (ResizeShorter("bicubic", share=0.9), CentreCrop()),
        "inception",
    ),
    "ssf-vtab": Harness("SSF on VTAB-1k", _SQUASH, _SQUASH, "inception"),
    "vpt": Harness(
        "VPT on FGVC",
        (ResizeShorter("bilinear", share=0.875), RandomCrop(), Flip()),
        _CENTRE_256,
        "imagenet",
    ),
    "vpt-vtab": Harness("VPT on VTAB-1k", _SQUASH_FLOAT, _SQUASH_FLOAT, "imagenet"),
}
"""Name to harness; `datasets_registry/` names them in its field ``transforms``."""

_Numbers = float | Sequence[float]


def harness_transforms(
    name: str,
    size: int,
    mean: _Numbers,
    std: _Numbers,
    *,
    channels: int = 3,
    normalise: str | tuple[_Numbers, _Numbers] | None = None,
    normalise_train: str | tuple[_Numbers, _Numbers] | None = None,
    exact: bool = True,
) -> Transforms:
    r"""Make the transforms of a published training program, for one's own backbone.

    $$ x = (\text{pixels} / 255 - \text{mean}) / \text{std} $$

    Args:
        name: A key of `HARNESSES`.
        size: Height and width of the result, pixels.
        mean: What the backbone was trained with, for values in 0..1: one number, or one for each
            channel.
        std: Likewise the standard deviation.
        channels: 3 for RGB, 1 for grey.
        normalise: ``None`` uses ``mean`` and ``std``; ``"published"`` what the harness's published
            runs used; or ``"imagenet"``, ``"inception"``, ``"clip"``, ``"none"``, or numbers
            ``(mean, std)``.
        normalise_train: The same for training images only, to repeat a program that normalised
            them differently; warned about, because such a network is tested on inputs that it was
            not trained on.
        exact: Whether pixels are those of the published programs, which resize with Pillow;
            otherwise tensors are resized, antialiased too, which is several times as fast and
            moves some pixels by a level or two of 255.

    Returns:
        Two transforms from ``PIL.Image.Image`` to a float32 tensor ``(channels, size, size)``. The
        training transform is the test transform where the harness does not augment.

    Raises:
        ValueError: If the name is unknown (the closest is offered) or an argument makes no sense.

    Examples:
        >>> from PIL import Image
        >>> both = harness_transforms("snell-fgvc", 224, 0.5, 0.5, normalise="imagenet")
        >>> tuple(both.train(Image.new("RGB", (300, 200))).shape)
        (3, 224, 224)
    """
    harness = _find(name)
    if size < 1:
        raise ValueError(f"size is {size}: give the side of the image in pixels, such as 224")
    if channels not in (1, 3):
        raise ValueError(f"channels is {channels}: give 3 for RGB or 1 for grey")
    own = (mean, std) if normalise is None else normalise
    own = harness.normalise if own == "published" else own
    both = statistics(own, channels)
    test = Pipeline(harness.test, size, *both, exact)
    if normalise_train is not None:
        other = statistics(normalise_train, channels, argument="normalise_train")
        if other != both:
            _warn(other, both)
            return Transforms(Pipeline(harness.train, size, *other, exact), test)
    same = harness.train == harness.test
    return Transforms(test if same else Pipeline(harness.train, size, *both, exact), test)


def _find(name: str) -> Harness:
    """The harness of a name."""
    if name not in HARNESSES:
        close = get_close_matches(name, HARNESSES, n=1, cutoff=0.4)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise ValueError(f"unknown harness '{name}': {hint}known: {', '.join(HARNESSES)}")
    return HARNESSES[name]


def _warn(train: object, test: object) -> None:
    """Say that training and test images are normalised differently."""
    warnings.warn(
        f"training images are normalised with {train}, test images with {test}: "
        "leave normalise_train out unless a published run is to be repeated",
        UserWarning,
        stacklevel=3,
    )
