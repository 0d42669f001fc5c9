"""Base and new classes: train on the first half of the classes, measure on both halves."""

import dataclasses
import math
from typing import TYPE_CHECKING

from fewshot_data.registry import list_datasets

if TYPE_CHECKING:
    from fewshot_data.loaders import FewShotData

__all__ = ["SUBSAMPLES", "cross_dataset", "harmonic_mean", "subsample"]

SUBSAMPLES = ("all", "base", "new")


def subsample(data: "FewShotData", classes: str) -> "FewShotData":
    r"""Keep the first $\lceil C/2 \rceil$ classes, or the others, and number them anew from 0.

    Shots are drawn over all classes before, so that ``base`` and ``all`` share their images. What
    counts as the first half depends on the order of labels, which is part of the protocol: data
    whose labels come from elsewhere (torchvision, the hub) has other base classes.

    Args:
        data: Drawn over all classes.
        classes: ``"all"``, ``"base"`` or ``"new"``.

    Returns:
        The data with the chosen classes alone.

    Raises:
        ValueError: If ``classes`` is something else.

    Examples:
        >>> from fewshot_data import few_shot
        >>> base = few_shot("digits", 1, seed=1, subsample="base")
        >>> len(base.class_names), len(base.train)
        (5, 5)

    Reference:
        ``subsample_classes`` of CoOp's ``oxford_pets.py``.
    """
    if classes not in SUBSAMPLES:
        raise ValueError(f"subsample is '{classes}': give {', '.join(SUBSAMPLES)}")
    if classes == "all":
        return data
    # CoOp halves the labels of the training list; here every class has training samples.
    half = math.ceil(len(data.class_names) / 2)
    kept = range(half) if classes == "base" else range(half, len(data.class_names))
    parts = {
        name: part and part.relabelled({label: label - kept.start for label in kept})
        for name, part in (("train", data.train), ("test", data.test), ("val", data.val))
    }
    names = tuple(data.class_names[label] for label in kept)
    return dataclasses.replace(data, class_names=names, **parts)


def harmonic_mean(base: float, new: float) -> float:
    """The one number that base-to-new tables rank by.

    Args:
        base: Accuracy on the base classes.
        new: Accuracy on the new classes.

    Returns:
        Their harmonic mean, $2 b n / (b + n)$; 0 if both are. Papers take it of accuracies that
        were averaged over seeds.

    Raises:
        ValueError: If one is negative.

    Examples:
        >>> harmonic_mean(0.8, 0.6)
        0.6857142857142857
    """
    if base < 0 or new < 0:
        raise ValueError(f"accuracies are {base} and {new}: neither may be negative")
    return 2 * base * new / (base + new) if base + new else 0.0


def cross_dataset() -> tuple[str, tuple[str, ...]]:
    """The cross-dataset protocol: learn on 16 shots of ImageNet, measure elsewhere.

    Returns:
        The dataset to learn on, and those to measure on: the other ten, then the four shifts.

    Examples:
        >>> source, targets = cross_dataset()
        >>> source, len(targets)
        ('imagenet', 14)
    """
    groups = {spec.name: spec.group for spec in list_datasets()}
    others = [name for name, group in groups.items() if group == "clip" and name != "imagenet"]
    shifts = [name for name, group in groups.items() if group == "imagenet-shift"]
    return "imagenet", (*others, *shifts)
