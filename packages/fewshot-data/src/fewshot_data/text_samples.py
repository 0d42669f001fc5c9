"""Sentences and sentence pairs of a dataset, read from its columns when they are asked for."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from fewshot_data.rows import ArrowStrings

__all__ = ["Part", "TextSamples", "check_texts"]


@dataclass(frozen=True)
class Part:
    """One split of a text dataset.

    Args:
        columns: The sentences: one column, or two of equal length for pairs.
        scores: For regression, what is to be predicted; empty otherwise.

    Examples:
        >>> len(Part((["a", "b"], ["c", "d"])))
        2
    """

    columns: tuple[Sequence[str], ...]
    scores: Sequence[float] = ()

    def __len__(self) -> int:
        return len(self.columns[0])


class TextSamples(Sequence[Any]):
    """Splits one after another as one sequence.

    A sample is a ``str``; or ``(first, second)`` for sentence pairs; or, for regression,
    ``{"text": (first, second), "score": 3.8}``.

    Args:
        parts: The splits.

    Examples:
        >>> TextSamples([Part((["a"],)), Part((["b", "c"],))])[2]
        'c'
        >>> TextSamples([Part((["a"], ["b"]), [0.5])])[0]
        {'text': ('a', 'b'), 'score': 0.5}
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = list(parts)
        self._ends = list(accumulate(map(len, self.parts)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index):  # type: ignore[override]  # no slices: nobody takes them
        """The sample at ``index``."""
        index = index + len(self) if index < 0 else index
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} samples")
        at = bisect_right(self._ends, index)
        part = self.parts[at]
        row = index - (self._ends[at] - len(part))
        texts = tuple(column[row] for column in part.columns)
        text = texts if len(texts) > 1 else texts[0]
        return {"text": text, "score": part.scores[row]} if part.scores else text


def check_texts(values: Sequence[Any], column: str, where: str) -> Sequence[str]:
    """The column, if every value is a text.

    Args:
        values: The column.
        column: Its name, for messages.
        where: What to call the file in messages.

    Returns:
        The column as it is.

    Raises:
        ValueError: If there is a gap or something else than a string; the row is named.

    Examples:
        >>> check_texts(["a", None], "text", "'a.csv'")
        Traceback (most recent call last):
        ValueError: row 2 of 'a.csv' has no text: column 'text' is empty there
    """
    for row, value in enumerate(() if isinstance(values, ArrowStrings) else values, start=1):
        if not isinstance(value, str):
            what = "empty" if value is None else repr(value)
            raise ValueError(f"row {row} of {where} has no text: column '{column}' is {what} there")
    return values
