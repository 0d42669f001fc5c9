"""Which characters the glyph datasets are made of, and which of them pretraining may see.

Pretraining sees letters and digits of four alphabets. Never seen are all other scripts, and 155
letters whose names are compositions ("LATIN SMALL LETTER A WITH ACUTE") of words that other
names of the source contain: their names can be understood without having seen them.
"""

from collections import Counter
from functools import lru_cache

from fewshot_data.character_names import Character, characters, stable_fraction
from fewshot_data.glyph_render import FACES, PRETRAINING_FACES, draw

__all__ = ["HELD_OUT_SCRIPTS", "compositions", "script_letters", "source_characters"]

SOURCE_SCRIPTS = ("latin", "greek", "cyrillic", "mathematical", "digit")
HELD_OUT_SCRIPTS = (
    "armenian",
    "georgian",
    "hebrew",
    "arabic",
    "tifinagh",
    "nko",
    "lao",
    "canadian",
    "ogham",
    "lisu",
    "coptic",
)
COMPOSITIONS = 155
MOST_WORDS = 9  # longer names do not fit into the 16 tokens of the tiny text tower


@lru_cache(maxsize=1)
def source_characters() -> tuple[Character, ...]:
    """Letters and digits of the source alphabets, without the compositions held out.

    Characters that DejaVu Sans draws identically are one character, under the lowest code point.

    Returns:
        In order of code point.

    Examples:
        >>> source_characters()[0].name
        'digit zero'
    """
    held_out = set(compositions())
    return tuple(c for c in _alphabets() if c not in held_out)


@lru_cache(maxsize=1)
def compositions() -> tuple[Character, ...]:
    """Letters "... with ..." that pretraining never sees, chosen by a stable hash of their names.

    Returns:
        155 characters in order of code point; every word of their names is also in the name of
        at least two source characters, and at least four faces draw them.

    Examples:
        >>> all(" with " in character.name for character in compositions())
        True
    """
    ranked = sorted(_alphabets(), key=lambda c: stable_fraction(c.name, salt="compositions"))
    left = Counter(word for c in ranked for word in set(c.name.split()))
    chosen: list[Character] = []
    for character in ranked:
        words = set(character.name.split())
        if _may_be_held_out(character) and all(left[word] > 2 for word in words):
            chosen.append(character)
            left.subtract(words)
        if len(chosen) == COMPOSITIONS:
            break
    return tuple(sorted(chosen))


def script_letters(script: str) -> tuple[Character, ...]:
    """Letters of a script held out of pretraining, as far as ten faces or more draw them.

    Args:
        script: The first word of the characters' names, one of `HELD_OUT_SCRIPTS`.

    Returns:
        In order of code point; characters that look identical appear once.

    Raises:
        ValueError: Another script, or one of which too few faces are left.

    Examples:
        >>> script_letters("georgian")[0].name
        'georgian letter an'
    """
    if script not in HELD_OUT_SCRIPTS:
        raise ValueError(f"unknown script '{script}': known: {', '.join(HELD_OUT_SCRIPTS)}")
    letters = [c for c in characters() if c.name.split()[0] == script and c.category[0] == "L"]
    drawn = [c for c in letters if sum(draw(c.code, face) is not None for face in FACES) >= 10]
    if not drawn:
        raise ValueError(f"script '{script}': no letter is drawn by ten faces; choose another one")
    return _distinct(drawn)


@lru_cache(maxsize=1)
def _alphabets() -> tuple[Character, ...]:
    """All letters and digits of the source alphabets that DejaVu Sans draws."""
    named = (c for c in characters() if c.name.split()[0] in SOURCE_SCRIPTS)
    return _distinct([c for c in named if c.category[0] == "L" or c.category == "Nd"])


def _distinct(found: list[Character]) -> tuple[Character, ...]:
    """Those that DejaVu Sans draws, each drawing once."""
    first: dict[bytes, Character] = {}
    for character in found:
        image = draw(character.code, PRETRAINING_FACES[0])
        if image is not None:
            first.setdefault(image.tobytes(), character)
    return tuple(first.values())


def _may_be_held_out(character: Character) -> bool:
    """Whether it is a composition that fits the text tower and enough faces draw."""
    words = character.name.split()
    faces = sum(draw(character.code, face) is not None for face in FACES)
    return "with" in words and len(words) <= MOST_WORDS and faces >= 4
