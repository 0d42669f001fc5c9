"""Labels of text datasets as class numbers, whether files hold numbers, words or scores."""

import math
import re
from collections.abc import Sequence
from typing import Any

__all__ = ["HIDDEN", "class_numbers", "score_levels", "scores"]

HIDDEN = -1
"""The label of test rows whose true label the benchmark keeps to itself."""


def class_numbers(
    values: Sequence[Any],
    class_names: Sequence[str],
    *,
    stored: Sequence[str] | None = None,
    where: str = "the data",
) -> list[int]:
    """Class numbers in the order of ``class_names``, whatever order the file has.

    Args:
        values: What the file holds: whole numbers, their digits, or class names.
        class_names: The classes in the order that is wanted.
        stored: The class names that the file itself gives its numbers; mapped by name.
        where: What to call the file in messages.

    Returns:
        One number for each value, in ``0 .. len(class_names) - 1``, or `HIDDEN`.

    Raises:
        ValueError: If a value is no class, or the file's own classes have other names.

    Examples:
        >>> class_numbers(["no", "yes", "1"], ["yes", "no"])
        [1, 0, 1]
        >>> class_numbers([0, 1], ["yes", "no"], stored=["no", "yes"])
        [1, 0]
    """
    if stored is not None and set(stored) != set(class_names):
        raise ValueError(
            f"{where} has the classes {', '.join(stored)}, but they should be "
            f"{', '.join(class_names)}: it is another dataset, or another version of it"
        )
    numbers = {name: number for number, name in enumerate(class_names)}
    order = [numbers[name] for name in stored or class_names]
    known: dict[Any, int] = {}
    labels = []
    for row, value in enumerate(values, start=1):
        key = (type(value), value) if isinstance(value, str | int | float) else None
        number = known.get(key) if key else None
        if number is None:
            number = known[key] = _number(value, numbers, order, f"row {row} of {where}")
        labels.append(number)
    return labels


def scores(values: Sequence[Any], highest: int, *, where: str = "the data") -> list[float]:
    """Scores as numbers.

    Args:
        values: What the file holds: numbers, or their digits.
        highest: The largest score; the smallest is 0.
        where: What to call the file in messages.

    Returns:
        One score for each value.

    Raises:
        ValueError: If a value is no number from 0 to ``highest``.

    Examples:
        >>> scores(["2.5", 5.0], 5)
        [2.5, 5.0]
    """
    found = []
    for row, value in enumerate(values, start=1):
        try:
            score = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            score = math.nan
        if not 0 <= score <= highest:
            raise ValueError(
                f"row {row} of {where} has the score {value!r}: it must be 0 to {highest}"
            )
        found.append(score)
    return found


def score_levels(values: Sequence[float]) -> list[int]:
    """Scores rounded to whole levels, halves upwards, so that few shots can cover the scale.

    Args:
        values: Scores, 0 or more.

    Returns:
        One level for each score.

    Examples:
        >>> score_levels([0.4, 0.5, 4.6])
        [0, 1, 5]
    """
    return [math.floor(value + 0.5) for value in values]


def _number(value: Any, numbers: dict[str, int], order: Sequence[int], where: str) -> int:
    """The class of one value."""
    if isinstance(value, str) and value in numbers:
        return numbers[value]
    whole = isinstance(value, str) and re.fullmatch("-?[0-9]{1,9}", value) is not None
    whole = whole or (isinstance(value, float) and value.is_integer())
    if whole or type(value) is int:
        index = int(value)
        if index == HIDDEN or 0 <= index < len(order):
            return HIDDEN if index == HIDDEN else order[index]
    raise ValueError(
        f"{where} has the label {value!r}: known are {', '.join(numbers)}, and their numbers "
        f"0 to {len(order) - 1}"
    )
