"""What every source hands over: all samples, their labels, and which of them may be drawn from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["RawDataset"]


@dataclass(frozen=True)
class RawDataset:
    """A whole dataset before any few-shot sampling and before any transform.

    Args:
        samples: All samples; ``samples[i]`` is a ``PIL.Image.Image`` or a ``str``. It may be lazy
            (images are then decoded on access) but must support ``len`` and return equal samples
            for equal indices.
        labels: One class number per sample, in ``0 .. len(class_names) - 1``.
        class_names: Class names in label order.
        train_indices: Positions of the samples that shots may be drawn from (the pool).
        test_indices: Positions of the samples that accuracy is measured on.
        val_indices: Positions of the validation samples; empty where there are none.
        names: For every sample what identifies it wherever the data lies: the path of an image
            below its image folder, with ``/``; empty where samples have no files.
        origin: One sentence on where samples and splits come from, for reports.
        published: Whether the splits are the ones that published numbers were made on.
        official: The training set that the data itself fixes, as positions from (shots, seed);
            shots of -1 mean all of it. ``None`` where the data fixes nothing.
        val_in_train: Whether validation shots are drawn from the training pool, by harnesses that
            want some, because there is no validation split (ImageNet).
        complaints: What differs from the published data, one sentence each: warnings, and errors
            where strictness is asked for.

    Raises:
        ValueError: If lengths disagree, or a label or an index is out of range.

    Examples:
        >>> raw = RawDataset(["a", "b"], [0, 1], ("vowel", "consonant"), [0, 1], [])
        >>> raw.class_names[raw.labels[1]]
        'consonant'
    """

    samples: Sequence[Any]
    labels: list[int]
    class_names: tuple[str, ...]
    train_indices: list[int]
    test_indices: list[int]
    val_indices: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    origin: str = ""
    published: bool = True
    official: Callable[[int, int], list[int]] | None = None
    complaints: tuple[str, ...] = ()
    val_in_train: bool = False

    def __post_init__(self) -> None:
        count, classes = len(self.samples), len(self.class_names)
        if len(self.labels) != count:
            raise ValueError(f"labels has {len(self.labels)} entries for {count} samples")
        if self.names and len(self.names) != count:
            raise ValueError(f"names has {len(self.names)} entries for {count} samples")
        outside = {label for label in self.labels if not 0 <= label < classes}
        if outside:
            raise ValueError(f"labels {sorted(outside)[:5]} lie outside 0..{classes - 1}")
        for name in ("train_indices", "test_indices", "val_indices"):
            wrong = [i for i in getattr(self, name) if not 0 <= i < count]
            if wrong:
                raise ValueError(f"{name} {wrong[:5]} lie outside 0..{count - 1}")
