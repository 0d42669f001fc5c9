"""Labels of a copy on the hub, in its own order or mapped to the registry's by class name."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fewshot_data.registry import DatasetSpec

__all__ = ["Labels", "labels_like", "own_labels"]

DROPPED = frozenset({"background google", "google background", "background", "faces easy"})
"""Classes of Caltech101 that its few-shot form leaves out."""


@dataclass(frozen=True)
class Labels:
    """Labels of every part.

    Args:
        of: By part, one label per row; ``None`` for a row that is left out.
        class_names: Names in label order.
        how: Where the order comes from, for reports.
    """

    of: Mapping[str, list[int | None]]
    class_names: tuple[str, ...]
    how: str


def own_labels(values: Mapping[str, Sequence[Any]], names: Sequence[str]) -> Labels:
    """Labels as the copy numbers them; without stored names, its sorted values.

    Args:
        values: By part, the label column.
        names: The names that the column stores; empty if none.

    Returns:
        The labels; rows without a label (``None`` or -1) are left out.

    Raises:
        ValueError: If a label is neither a whole number nor a word, or beyond the names.

    Examples:
        >>> own_labels({"train": [3, 5, -1]}, ()).of["train"]
        [0, 1, None]
    """
    present = {v for column in values.values() for v in column if v not in (None, -1)}
    wrong = [value for value in present if isinstance(value, bool | float | list | dict)]
    if wrong or len({type(value) for value in present}) > 1:
        odd = (wrong or list(present))[0]
        raise ValueError(f"a label is {odd!r}: labels must be whole numbers, or words, throughout")
    if names:
        beyond = [value for value in present if not 0 <= value < len(names)]
        if beyond:
            raise ValueError(f"label {beyond[0]} is beyond the {len(names)} class names")
        number: dict[Any, int] = {label: label for label in range(len(names))}
        class_names = tuple(names)
    else:
        number = {value: label for label, value in enumerate(sorted(present))}
        class_names = tuple(v if isinstance(v, str) else f"class {v}" for v in number)
    of = {part: [number.get(value) for value in column] for part, column in values.items()}
    return Labels(of, class_names, "labels in the copy's own order")


def labels_like(own: Labels, known: DatasetSpec) -> Labels:
    """Renumber labels so that they follow the registry, class name by class name.

    Names are compared by their words in any order, so that ``Audi TTS Coupe 2012`` is
    ``2012 Audi TTS Coupe`` and ``apple_pie`` is ``Apple pie``. Every class must find its partner,
    else nothing is mapped: a guess would shift labels without a sign.

    Args:
        own: The copy's labels.
        known: The registry's dataset, with class names in its order.

    Returns:
        The mapped labels; rows of classes that the few-shot form leaves out are left out.

    Raises:
        ValueError: If a class has no partner, or two have the same.

    Examples:
        >>> from dataclasses import replace
        >>> from fewshot_data import load_spec
        >>> spec = replace(load_spec("digits"), class_names=("cheese_plate", "cheesecake"))
        >>> copy = Labels({"train": [0, 1]}, ("Cheesecake", "Cheese plate"), "")
        >>> labels_like(copy, spec).of["train"]
        [1, 0]
    """
    target = {_words(name): label for label, name in enumerate(known.class_names)}
    renames = {_words(old): _words(new) for old, new in known.renames.items()}
    if len(target) != len(known.class_names):
        raise ValueError(f"class names of '{known.name}' are not told apart by their words")
    mapped: list[int | None] = []
    for name in own.class_names:
        words = _words(name)
        mapped.append(target.get(words, target.get(renames.get(words, ""))))
    strangers = [
        name
        for name, at in zip(own.class_names, mapped, strict=True)
        if at is None and re.sub(r"[^a-z]+", " ", name.lower()).strip() not in DROPPED
    ]
    lacking = [n for label, n in enumerate(known.class_names) if label not in mapped]
    found = [at for at in mapped if at is not None]
    if strangers or lacking or len(set(found)) != len(found):
        raise ValueError(
            f"class names of the copy do not match those of '{known.name}' one to one: "
            f"unknown {strangers[:5]}, missing {lacking[:5]}; labels cannot be mapped, so it is "
            'refused. Set the option like = "" to take the copy\'s own labels'
        )
    of = {
        part: [None if label is None else mapped[label] for label in column]
        for part, column in own.of.items()
    }
    return Labels(of, known.class_names, f"labels mapped by class name to those of '{known.name}'")


def _words(name: str) -> str:
    """A name's words, lower case and sorted."""
    split = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", name)
    return " ".join(sorted(re.findall(r"[^\W_]+", split.lower())))
