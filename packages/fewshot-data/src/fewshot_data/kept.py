"""Transformed samples: collated into batches, and kept in memory as long as they fit."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["CACHE_BYTES", "Kept", "collate"]

CACHE_BYTES = 1 << 30
"""By default, samples of a split that take no more bytes than this (1 GiB) are kept."""


class Kept:
    """Samples that are made when they are first asked for and then remembered.

    Once all have been made they become one tensor per key, and a batch is one indexed read. Images
    that would take more than the limit are not remembered at all. Token lists always are, for
    they are no larger than their texts, but beyond the limit they stay unpadded.

    Args:
        count: Number of samples.
        make: Makes the sample at a position, the same one every time; ``None`` if it is to be
            left out.
        limit: Bytes that samples may take together; ``None`` is `CACHE_BYTES`.

    Examples:
        >>> kept = Kept(3, lambda position: {"image": torch.tensor(float(position))})
        >>> kept.batch(torch.tensor([2, 0]))
        {'image': tensor([2., 0.])}
    """

    def __init__(
        self,
        count: int,
        make: Callable[[int], dict[str, Tensor] | None],
        limit: int | None = None,
    ) -> None:
        self.count, self.make = count, make
        self.limit = CACHE_BYTES if limit is None else limit
        self._items: dict[int, dict[str, Tensor]] = {}
        self._lost: set[int] = set()
        self._rows: dict[str, Tensor] | None = None
        self._growing = True

    @property
    def complete(self) -> bool:
        """Whether every sample is in memory."""
        return self._rows is not None or len(self._items) + len(self._lost) == self.count

    def holds(self, position: int) -> bool:
        """Whether a sample is in memory.

        Args:
            position: Of the sample.

        Returns:
            Whether it need not be made again.

        Examples:
            >>> Kept(1, lambda position: None).holds(0)
            False
        """
        return self._rows is not None or position in self._items or position in self._lost

    def batch(self, positions: Tensor) -> dict[str, Tensor] | None:
        """Collate the samples at some positions.

        Args:
            positions: Which, int64 ``(B,)``.

        Returns:
            For every key a tensor ``(B, ...)``, with fewer rows where samples are left out, and
            ``None`` where all are; token columns that no text reaches are cut.

        Raises:
            ValueError: If samples do not have the same shape.

        Examples:
            >>> kept = Kept(2, lambda position: {"label": torch.tensor(position)})
            >>> kept.batch(torch.tensor([1]))
            {'label': tensor([1])}
        """
        if self._growing and self.complete:
            self._growing = False
            self._stack()
        if self._lost:
            left = [position for position in positions.tolist() if position not in self._lost]
            positions = torch.tensor(left, dtype=torch.int64)
        if self._rows is not None and len(positions):
            return _trim({key: row.index_select(0, positions) for key, row in self._rows.items()})
        items = [self._item(position) for position in positions.tolist()]
        readable = [item for item in items if item is not None]
        return collate(readable) if readable else None

    def remember(self, positions: Sequence[int], batch: Mapping[str, Tensor] | None) -> None:
        """Take over samples that were made elsewhere.

        Args:
            positions: Of the samples.
            batch: For every key a tensor with a row for each of them; ``None`` if all of them are
                to be left out.

        Examples:
            >>> kept = Kept(1, lambda position: None)
            >>> kept.remember([0], {"label": torch.tensor([7])})
            >>> kept.complete
            True
        """
        if batch is None:
            self._lost.update(positions)
        elif self._rows is None:
            for row, position in enumerate(positions):
                item = {key: value[row] for key, value in batch.items()}
                if self._fits(item):
                    self._items[position] = {key: value.clone() for key, value in item.items()}

    def _item(self, position: int) -> dict[str, Tensor] | None:
        """The sample at one position, made now or remembered."""
        item = self._items.get(position)
        if item is None:
            item = self.make(position)
            if item is None:
                self._lost.add(position)
            elif self._fits(item):
                self._items[position] = item
        return item

    def _fits(self, item: Mapping[str, Tensor]) -> bool:
        """Whether samples like this one are remembered."""
        ragged = any(value.ndim == 1 for value in item.values())
        return ragged or _bytes(item) * self.count <= self.limit

    def _stack(self) -> None:
        """Move all samples into one tensor per key, if that fits once they are padded."""
        if not self._items or max(map(_bytes, self._items.values())) * self.count > self.limit:
            return
        first = next(iter(self._items.values()))
        rows = {
            key: value.new_zeros(self.count, *_largest(key, [i[key] for i in self._items.values()]))
            for key, value in first.items()
        }
        for position in list(self._items):
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
