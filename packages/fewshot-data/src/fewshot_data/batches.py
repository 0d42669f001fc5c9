"""Batches of a drawn split: transformed once where that is allowed, and selected by index."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset

from fewshot_data.transforms import Seeded

__all__ = ["CACHE_BYTES", "Split", "collate"]

CACHE_BYTES = 1 << 30
"""A split whose transformed samples fit into this many bytes (1 GiB) is kept in memory."""


class Split(Dataset[dict[str, Any]]):
    """The drawn samples of one split, as a dataset and as batches.

    Args:
        samples: All samples of the dataset; may be lazy.
        labels: Class number of every sample of the dataset.
        indices: Which of them belong to the split; repeats are allowed.
        modality: ``"image"`` or ``"text"``.
        transform: From a sample to a tensor or a dict of tensors; ``None`` leaves it as it is.
        fixed: Whether the transform gives the same result each time, so that it may be kept.

    Example:
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
        self._rows: dict[str, Tensor] | None = None
        self._items: list[dict[str, Tensor]] | None = None
        self._undecided = fixed

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

        Example:
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

        Example:
            >>> split = Split([0.0, 1.0], [0, 1], [0, 1], "image", torch.tensor)
            >>> [len(batch["label"]) for batch in split.in_order(1)]
            [1, 1]
        """
        self._check(batch_size)
        starts = range(0, len(self), batch_size)
        positions = torch.arange(len(self))
        return (
            self._batch(positions[start : start + batch_size], self.transform) for start in starts
        )

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

    def _batch(self, positions: Tensor, transform: Any) -> dict[str, Tensor]:
        """The samples at ``positions``: selected from memory, or transformed now."""
        if self._undecided:
            self._keep_what_fits()
        if self._rows is not None:
            return _trim({key: row.index_select(0, positions) for key, row in self._rows.items()})
        if self._items is not None:
            return _trim(collate([self._items[i] for i in positions.tolist()]))
        return _trim(collate([self._item(i, transform) for i in positions.tolist()]))

    def _keep_what_fits(self) -> None:
        """Transform every sample once: kept stacked, unpadded if only that fits, or not at all."""
        self._undecided = False
        first = self[0]
        # Token lists are kept in any case: they are no larger than the texts that are in memory.
        ragged = any(value.ndim == 1 for value in first.values())
        if not ragged and _bytes(first) * len(self) > CACHE_BYTES:
            return
        items = [first, *(self[position] for position in range(1, len(self)))]
        if max(_bytes(item) for item in items) * len(items) <= CACHE_BYTES:
            self._rows = collate(items)
        else:
            self._items = items

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


def collate(items: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Stack samples into one batch; token lists of different length are padded with 0.

    Args:
        items: Samples with the same keys; tensors of one key differ at most in their first side.

    Returns:
        For every key a tensor ``(len(items), ...)``.

    Example:
        >>> collate([{"input_ids": torch.tensor([3])}, {"input_ids": torch.tensor([4, 5])}])
        {'input_ids': tensor([[3, 0],
                [4, 5]])}
    """
    columns = {key: [item[key] for item in items] for key in items[0]}
    return {key: torch.stack(_padded(key, column)) for key, column in columns.items()}


def _padded(key: str, column: list[Tensor]) -> list[Tensor]:
    """The column with one-dimensional tensors filled up to the longest."""
    shapes = {tuple(row.shape) for row in column}
    if len(shapes) == 1:
        return column
    if any(len(shape) != 1 for shape in shapes):
        one, other = sorted(shapes)[:2]
        raise ValueError(
            f"the transform gives '{key}' of different shapes, such as {one} and {other}: "
            "a batch needs one shape, so resize or crop to a fixed size"
        )
    longest = max(len(row) for row in column)
    return [pad(row, (0, longest - len(row))) for row in column]


def _trim(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Cut token columns that no text of the batch reaches."""
    mask = batch.get("attention_mask")
    if mask is None:
        return batch
    used = mask.any(0).nonzero()
    longest = int(used.max()) + 1 if len(used) else 1
    return {
        key: rows[:, :longest] if rows.shape[:2] == mask.shape else rows
        for key, rows in batch.items()
    }


def _bytes(item: Mapping[str, Tensor]) -> int:
    """Memory of one transformed sample."""
    return sum(value.element_size() * value.numel() for value in item.values())
