"""Unicode character names, pinned in a file so that no result depends on the Python version.

Python's `unicodedata` follows the Unicode standard, so its set of names grows with every release.
Everything here reads `character_names.txt` instead: one line `code point;category;name` per
character, written once by `pinned_text` (Python 3.11, Unicode 14). To write it again:

```text
path.write_text(pinned_text(font_codes), encoding="ascii")
```

where `font_codes` are the code points of DejaVu Sans (`fontTools`' `getBestCmap`). A new file
changes data sets and pretrained weights alike, so it comes with new weights.
"""

import re
from collections.abc import Collection
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

__all__ = ["Character", "characters", "pinned_text", "stable_fraction"]

NAMES_FILE = Path(__file__).parent / "character_names.txt"

# Series whose names are only numbered ("EGYPTIAN HIEROGLYPH A001"): thousands of near-duplicates.
NUMBERED = re.compile(
    "IDEOGRAPH|^(HANGUL|YI SYLLABLE|EGYPTIAN|TANGUT|SIGNWRITING|BAMUM LETTER PHASE|ANATOLIAN|"
    "KHITAN|NUSHU|CUNEIFORM|LINEAR|VARIATION|BRAILLE|HENTAIGANA|DUPLOYAN|TAG |KANGXI|CJK|"
    "BYZANTINE|ZNAMENNY|DOMINO|MEROITIC|VAI|MENDE KIKAKUI|PAHAWH|CYPRO-MINOAN|"
    "MATHEMATICAL (BOLD|ITALIC|SANS|SCRIPT|FRAKTUR|DOUBLE|MONO))"
)


class Character(NamedTuple):
    """One Unicode character: its code point, general category ("Lu") and lower-case name."""

    code: int
    category: str
    name: str


@lru_cache(maxsize=1)
def characters() -> tuple[Character, ...]:
    """All pinned characters, in order of code point.

    Returns:
        About 22,000 characters with name and general category.

    Examples:
        >>> next(c for c in characters() if c.code == 0x10D0)
        Character(code=4304, category='Ll', name='georgian letter an')
    """
    rows = (line.split(";") for line in NAMES_FILE.read_text(encoding="ascii").splitlines())
    return tuple(Character(int(code, 16), kind, name.lower()) for code, kind, name in rows)


def stable_fraction(text: str, *, salt: str) -> float:
    """A number in [0, 1) that depends on the text alone, on every machine and Python.

    Args:
        text: What to hash.
        salt: Names the purpose, so that independent choices are independent.

    Returns:
        The first 8 bytes of BLAKE2b, as a fraction.

    Examples:
        >>> round(stable_fraction("latin small letter a", salt="example"), 3)
        0.312
    """
    digest = blake2b(f"{salt}:{text}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def pinned_text(font_codes: Collection[int]) -> str:
    """The content of the pinned file, from this Python's own Unicode tables.

    Args:
        font_codes: Code points that are kept although their name belongs to a numbered series.

    Returns:
        One line `code point;category;name` per character.

    Examples:
        >>> pinned_text([]).splitlines()[0]
        '0020;Zs;SPACE'
    """
    import unicodedata

    named = ((code, unicodedata.name(chr(code), "")) for code in range(0x110000))
    kept = ((c, n) for c, n in named if n and (c in font_codes or not NUMBERED.search(n)))
    return "".join(f"{code:04X};{unicodedata.category(chr(code))};{n}\n" for code, n in kept)
