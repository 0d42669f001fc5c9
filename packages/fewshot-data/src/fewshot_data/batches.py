"""One drawn split: a dataset, and batches in order or endlessly shuffled."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from fewshot_data.kept import Kept, collate
from fewshot_data.transforms import Seeded

__all__ = ["Split"]


class Split(Dataset[dict[str, Any]]):
    """The drawn samples of one split, as a dataset and as batches.

    Args:
        samples: All samples of the dataset; may be lazy.
        labels: Class number of every sample of the dataset.
        indices: Which of them belong to the split; repeats are allowed.
        modality: ``"image"`` or ``"text"``.
        transform: From a sample to a tensor or a dict of tensors; ``None`` leaves it as it is.
        fixed: Whether the transform gives the same result each time, so that results are kept in
            memory as far as `fewshot_data.kept.CACHE_BYTES` allows.

    Examples:
        >>> split = Split([0.0, 1.0], [0, 1], [1], "image", torch.tensor, fixed=True)
        >>> split[0]
        {'image': tensor(1.), 'label': tensor(1)}
    """

    def __init__(
        self,
        samples: Sequence[Any],
        labels: Sequence[int],
        indices: Sequence[int],
        modality: str,
        transform: Any = None,
        *,
        fixed: bool = True,
    ) -> None:
        self.samples, self.labels, self.indices = samples, labels, tuple(indices)
        self.modality, self.transform, self.fixed = modality, transform, fixed
        self._kept = Kept(len(self.indices), self.__getitem__)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._item(index, self.transform)

    def shuffled(self, batch_size: int, *, seed: int) -> Iterator[dict[str, Tensor]]:
        """Endless batches; every pass is a new permutation, its last batch may be smaller.

        Args:
            batch_size: Samples in a batch, at least 1.
            seed: Of the order, and (from a stream of its own) of a random transform.

        Yields:
            Batches with ``label`` int64 ``(B,)`` and what the transform makes.

        Raises:
            ValueError: If there is nothing to draw, no transform, or ``batch_size`` is below 1.

        Examples:
            >>> split = Split([0.0, 1.0], [0, 1], [0, 1], "image", torch.tensor)
            >>> sorted(next(split.shuffled(2, seed=0))["image"].tolist())
            [0.0, 1.0]
        """
        self._check(batch_size)
        if len(self) == 0:
            raise ValueError("there is no training sample (shots=0): give shots of at least 1")
        return self._endless(batch_size, seed)

    def in_order(self, batch_size: int) -> Iterator[dict[str, Tensor]]:
        """One pass over the split, in its own order.

        Args:
            batch_size: Samples in a batch, at least 1.

        Yields:
            Batches with ``label`` int64 ``(B,)`` and what the transform makes.

        Raises:
            ValueError: If there is no transform or ``batch_size`` is below 1.

        Examples:
            >>> split = Split([0.0, 1.0], [0, 1], [0, 1], "image", torch.tensor)
            >>> [len(batch["label"]) for batch in split.in_order(1)]
            [1, 1]
        """
        self._check(batch_size)
        positions = torch.arange(len(self))
        starts = range(0, len(self), batch_size)
        return (self._batch(positions[start : start + batch_size]) for start in starts)

    def _endless(self, batch_size: int, seed: int) -> Iterator[dict[str, Tensor]]:
        """Pass after pass over permutations of the split."""
        order = torch.Generator().manual_seed(seed)
        transform = self.transform
        if isinstance(transform, Seeded):
            # Another stream, so that augmenting does not change which samples meet in a batch.
            transform = transform.seeded(torch.Generator().manual_seed(seed ^ 0x5EED_C20B))
        while True:
            for part in torch.randperm(len(self), generator=order).split(batch_size):
                yield self._batch(part, transform)

    def _batch(self, positions: Tensor, transform: Any = None) -> dict[str, Tensor]:
        """The samples at ``positions``: remembered if they are fixed, else transformed now."""
        if self.fixed:
            return self._kept.batch(positions)
        transform = transform or self.transform
        return collate([self._item(position, transform) for position in positions.tolist()])

    def _item(self, position: int, transform: Any) -> dict[str, Any]:
        """One sample under the names that a backbone reads."""
        index = self.indices[position]
        sample = self.samples[index]
        value = sample if transform is None else transform(sample)
        named = dict(value) if isinstance(value, Mapping) else {self.modality: value}
        return {**named, "label": torch.tensor(self.labels[index])}

    def _check(self, batch_size: int) -> None:
        """Refuse what cannot give a batch of tensors."""
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: give at least 1")
        if self.transform is None:
            helper = "image_transforms" if self.modality == "image" else "text_transforms"
            raise ValueError(
                f"batches need tensors, and no transform was given: pass transform={helper}(...) "
                "from fewshot_data.transforms to few_shot or with_transform"
            )
