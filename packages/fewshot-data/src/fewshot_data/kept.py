"""Transformed samples: collated into batches, and kept in memory as long as they fit."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["CACHE_BYTES", "Kept", "collate"]

CACHE_BYTES = 1 << 30
"""Samples of a split that take no more than this many bytes together (1 GiB) are kept."""


class Kept:
    """Samples that are made when they are first asked for and then remembered.

    Once all have been made they become one tensor per key, and a batch is one indexed read. Images
    that would take more than `CACHE_BYTES` are not remembered at all. Token lists always are, for
    they are no larger than their texts, but beyond the limit they stay unpadded.

    Args:
        count: Number of samples.
        make: Makes the sample at a position, the same one every time.

    Examples:
        >>> kept = Kept(3, lambda position: {"image": torch.tensor(float(position))})
        >>> kept.batch(torch.tensor([2, 0]))
        {'image': tensor([2., 0.])}
    """

    def __init__(self, count: int, make: Callable[[int], dict[str, Tensor]]) -> None:
        self.count, self.make = count, make
        self._items: dict[int, dict[str, Tensor]] = {}
        self._rows: dict[str, Tensor] | None = None
        self._growing = True

    def batch(self, positions: Tensor) -> dict[str, Tensor]:
        """Collate the samples at some positions.

        Args:
            positions: Which, int64 ``(B,)``.

        Returns:
            For every key a tensor ``(B, ...)``; token columns that no text reaches are cut.

        Raises:
            ValueError: If samples do not have the same shape.

        Examples:
            >>> kept = Kept(2, lambda position: {"label": torch.tensor(position)})
            >>> kept.batch(torch.tensor([1]))
            {'label': tensor([1])}
        """
        if self._growing and len(self._items) == self.count:
            self._growing = False
            self._stack()
        if self._rows is not None:
            return _trim({key: row.index_select(0, positions) for key, row in self._rows.items()})
        return collate([self._item(position) for position in positions.tolist()])

    def _item(self, position: int) -> dict[str, Tensor]:
        """The sample at one position, made now or remembered."""
        item = self._items.get(position)
        if item is None:
            item = self.make(position)
            ragged = any(value.ndim == 1 for value in item.values())
            if ragged or _bytes(item) * self.count <= CACHE_BYTES:
                self._items[position] = item
        return item

    def _stack(self) -> None:
        """Move all samples into one tensor per key, if that fits once they are padded."""
        if max(map(_bytes, self._items.values())) * self.count > CACHE_BYTES:
            return
        first = self._items[0]
        rows = {
            key: value.new_zeros(self.count, *_largest(key, [i[key] for i in self._items.values()]))
            for key, value in first.items()
        }
        for position in range(self.count):
            for key, value in self._items.pop(position).items():
                row = rows[key][position]
                (row[: len(value)] if value.ndim == 1 else row).copy_(value)
        self._rows = rows


def collate(items: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Stack samples into one batch; token lists of different length are padded with 0.

    Args:
        items: Samples with the same keys; only one-dimensional tensors may differ in shape.

    Returns:
        For every key a tensor ``(len(items), ...)``; token columns that no text reaches are cut.

    Raises:
        ValueError: If samples do not have the same shape.

    Examples:
        >>> collate([{"input_ids": torch.tensor([3])}, {"input_ids": torch.tensor([4, 5])}])
        {'input_ids': tensor([[3, 0],
                [4, 5]])}
    """
    columns = {key: [item[key] for item in items] for key in items[0]}
    return _trim({key: torch.stack(_padded(key, column)) for key, column in columns.items()})


def _padded(key: str, column: list[Tensor]) -> list[Tensor]:
    """The column with one-dimensional tensors filled up to the longest."""
    largest = _largest(key, column)
    if len(largest) != 1:
        return column
    return [row if row.shape == largest else pad(row, (0, largest[0] - len(row))) for row in column]


def _largest(key: str, column: list[Tensor]) -> tuple[int, ...]:
    """The shape that holds every tensor of a column."""
    shapes = sorted({tuple(row.shape) for row in column})
    if len(shapes) == 1 or all(len(shape) == 1 for shape in shapes):
        return shapes[-1]
    raise ValueError(
        f"the transform gives '{key}' of different shapes, such as {shapes[0]} and {shapes[1]}: "
        "a batch needs one shape, so resize or crop to a fixed size"
    )


def _trim(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Cut token columns that no text of the batch reaches."""
    mask = batch.get("attention_mask")
    if mask is None:
        return batch
    used = mask.any(0).nonzero()
    longest = int(used.max()) + 1 if len(used) else 1
    if longest == mask.shape[1]:
        return batch
    # A view would keep the cut columns alive, and only in passes after the first.
    return {
        key: rows[:, :longest].clone() if rows.shape[:2] == mask.shape else rows
        for key, rows in batch.items()
    }


def _bytes(item: Mapping[str, Tensor]) -> int:
    """Memory of one transformed sample."""
    return sum(value.element_size() * value.numel() for value in item.values())
