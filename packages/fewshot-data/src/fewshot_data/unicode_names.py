"""Text classification from Unicode character names, the embedded target of BERT.

`held_out_names` are never seen in pretraining: a stable hash of the name decides.
"""

from functools import lru_cache
from typing import TYPE_CHECKING

from fewshot_data.character_names import Character, characters, stable_fraction
from fewshot_data.raw import RawDataset
from fewshot_data.sampling import held_out
from fewshot_data.schema import read_options

if TYPE_CHECKING:
    from fewshot_data.registry import DatasetSpec

__all__ = ["held_out_names", "open_source", "pretraining_names"]

HELD_OUT_SHARE = 0.3
FEWEST = 34  # names a class must have, so that 16 shots leave enough to test on
MOST = 96  # names a class gives at most, so that no class rules the accuracy
MASK = "[MASK]"
DEFAULTS = {"label": "category", "reversed": False, "test_share": 0.5}
CATEGORIES = {
    "Ll": "lowercase letter",
    "Lm": "modifier letter",
    "Lo": "other letter",
    "Lu": "uppercase letter",
    "Mc": "spacing mark",
    "Mn": "nonspacing mark",
    "Nd": "decimal number",
    "No": "other number",
    "Po": "other punctuation",
    "Sm": "math symbol",
    "So": "other symbol",
}
NO_SCRIPTS = ("combining", "modifier", "mathematical", "halfwidth", "fullwidth", "circled", "old")


def held_out_names() -> tuple[Character, ...]:
    """Characters whose names are kept for the targets.

    Returns:
        30 % of all, in order of code point.

    Examples:
        >>> set(held_out_names()).isdisjoint(pretraining_names())
        True
    """
    return tuple(c for c in characters() if _is_held_out(c.name))


def pretraining_names() -> tuple[Character, ...]:
    """Characters whose names pretraining may see.

    Returns:
        The other 70 %, in order of code point.

    Examples:
        >>> len(pretraining_names()) > len(held_out_names())
        True
    """
    return tuple(c for c in characters() if not _is_held_out(c.name))


def open_source(spec: "DatasetSpec", *, seed: int) -> RawDataset:
    """Open a dataset of names.

    Args:
        spec: The dataset. Options: ``label`` is ``"category"`` (the general category) or
            ``"script"`` (the first word of the name, masked in the text); ``reversed`` turns the
            order of the words around; ``test_share`` is the share of each class tested on.
        seed: Selects the test names.

    Returns:
        Lower-case names.

    Raises:
        ValueError: If an option is unknown or has a value that it cannot take.

    Examples:
        >>> from fewshot_data import load_spec
        >>> "uppercase letter" in open_source(load_spec("unicode-names"), seed=0).class_names
        True
    """
    options = read_options(spec.options, DEFAULTS, owner="source 'unicode-names'")
    if options["label"] not in ("category", "script"):
        raise ValueError(f"unknown label '{options['label']}': known: category, script")
    rows = _rows(options["label"])
    names = tuple(rows)
    texts = [_ordered(text, options["reversed"]) for texts in rows.values() for text in texts]
    labels = [label for label, texts in enumerate(rows.values()) for _ in texts]
    pool, test = held_out(labels, options["test_share"], seed=seed, class_names=names)
    return RawDataset(texts, labels, names, pool, test)


@lru_cache(maxsize=2)
def _rows(label: str) -> dict[str, list[str]]:
    """Class name to texts; at most `MOST` a class, chosen by a stable hash, classes sorted."""
    found: dict[str, list[str]] = {}
    ranked = sorted(held_out_names(), key=lambda c: stable_fraction(c.name, salt="order"))
    for character in ranked:
        name, text = _category(character) if label == "category" else _script(character)
        if name:
            found.setdefault(name, []).append(text)
    distinct = {name: list(dict.fromkeys(texts)) for name, texts in sorted(found.items())}
    return {name: texts[:MOST] for name, texts in distinct.items() if len(texts) >= FEWEST}


def _category(character: Character) -> tuple[str, str]:
    """The category in words, and the name."""
    return CATEGORIES.get(character.category, ""), character.name


def _script(character: Character) -> tuple[str, str]:
    """The script, and the name without it; nothing for symbols and marks of no one script."""
    first, _, rest = character.name.partition(" ")
    is_script = character.category[0] in "LMN" and rest and first not in NO_SCRIPTS
    is_script = is_script and first not in rest.split()  # "coptic small letter old coptic hori"
    return (first, f"{MASK} {rest}") if is_script else ("", "")


def _ordered(text: str, turned: bool) -> str:
    """The words from last to first, if they are to be turned."""
    return " ".join(reversed(text.split())) if turned else text


def _is_held_out(name: str) -> bool:
    """Whether the name belongs to the targets."""
    return stable_fraction(name, salt="unicode-names") < HELD_OUT_SHARE
