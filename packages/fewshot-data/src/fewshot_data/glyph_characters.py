"""Which characters the glyph data sets use, and which of them pretraining never sees.

Characters that DejaVu Sans draws with the same pixels (Latin A, Greek Alpha, Cyrillic A) are one
class, named after the first of them. Two kinds of classes are held out as targets: every letter
of the scripts in `HELD_OUT_SCRIPTS`, and `COMBINATIONS` names of the kind "latin small letter a
with acute", each of whose words still occurs in other names.
"""

import re
from collections import Counter
from functools import lru_cache

from fewshot_data.character_names import Character, characters, stable_fraction
from fewshot_data.glyph_render import draw

__all__ = ["alpha_characters", "combinations", "script_letters", "source_characters"]

HELD_OUT_SCRIPTS = (
    "armenian",
    "georgian",
    "hebrew",
    "arabic",
    "tifinagh",
    "nko",
    "lao",
    "canadian syllabics",
    "ogham",
    "lisu",
    "coptic",
)
COMBINATIONS = 155
MERGING_FACE = "DejaVuSans"
LEFT_OUT_CATEGORIES = "CMZ"  # controls, marks, separators
HELD_OUT = re.compile(rf"\b({'|'.join(HELD_OUT_SCRIPTS)})\b")
ALPHA = re.compile(r"^(latin|greek|cyrillic|mathematical|digit)\b")


@lru_cache(maxsize=1)
def source_characters() -> tuple[Character, ...]:
    """The classes that pretraining may see: no held-out script, no held-out combination.

    Returns:
        About 4,000 characters, one per class, in order of code point.

    Example:
        >>> any("georgian" in character.name for character in source_characters())
        False
    """
    held_out = set(combinations())
    return tuple(c for c in _open_characters() if c not in held_out)


@lru_cache(maxsize=1)
def alpha_characters() -> tuple[Character, ...]:
    """The source classes "alpha": Latin, Greek, Cyrillic and mathematical letters, and digits.

    Returns:
        Those of `source_characters` that are letters or digits of these alphabets.

    Example:
        >>> alpha_characters()[0].name
        'digit zero'
    """
    return tuple(c for c in source_characters() if _is_alpha(c))


@lru_cache(maxsize=1)
def combinations() -> tuple[Character, ...]:
    """The held-out compositional letters, chosen by a stable hash of their names.

    Returns:
        `COMBINATIONS` characters "... with ...", in order of code point. Each word of each name
        occurs in the name of at least one alpha character that is not held out.

    Example:
        >>> all(" with " in character.name for character in combinations())
        True
    """
    alpha = [c for c in _open_characters() if _is_alpha(c)]
    left = Counter(word for c in alpha for word in set(c.name.split()))
    chosen: list[Character] = []
    candidates = [c for c in alpha if " with " in c.name]
    for candidate in sorted(candidates, key=lambda c: stable_fraction(c.name, salt="combos")):
        words = set(candidate.name.split())
        if len(chosen) < COMBINATIONS and all(left[word] > 1 for word in words):
            left.subtract(words)
            chosen.append(candidate)
    return tuple(sorted(chosen))


def script_letters(script: str) -> tuple[Character, ...]:
    """The letters of one held-out script, without those that look like a source character.

    Args:
        script: One of `HELD_OUT_SCRIPTS`.

    Returns:
        One character per class, in order of code point.

    Raises:
        ValueError: The script is not held out.

    Example:
        >>> script_letters("georgian")[0].name
        'georgian capital letter an'
    """
    if script not in HELD_OUT_SCRIPTS:
        raise ValueError(
            f"unknown held-out script {script!r}: known: {', '.join(HELD_OUT_SCRIPTS)}"
        )
    unseen = (group for group in _classes() if all(HELD_OUT.search(c.name) for c in group))
    first = (group[0] for group in unseen)
    return tuple(c for c in first if c.name.startswith(f"{script} ") and c.category[0] == "L")


def _open_characters() -> list[Character]:
    """The first character outside the held-out scripts of every class that has one."""
    named = ([c for c in group if not HELD_OUT.search(c.name)] for group in _classes())
    return [group[0] for group in named if group]


def _is_alpha(character: Character) -> bool:
    """Whether a character is a letter or a digit of the source alphabets."""
    kind = character.category
    return bool(ALPHA.match(character.name)) and (kind[0] == "L" or kind == "Nd")


@lru_cache(maxsize=1)
def _classes() -> tuple[tuple[Character, ...], ...]:
    """All drawable characters, grouped by equal pixels, in order of first code point."""
    groups: dict[bytes, list[Character]] = {}
    for character in characters():
        if character.category[0] in LEFT_OUT_CATEGORIES:
            continue
        image = draw(character.code, MERGING_FACE)
        if image is not None:
            groups.setdefault(image.tobytes(), []).append(character)
    return tuple(tuple(group) for group in groups.values())
