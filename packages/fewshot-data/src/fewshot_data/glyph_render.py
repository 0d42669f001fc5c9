"""Drawing characters with the TrueType files that matplotlib ships, without importing matplotlib.

A drawing is a 40×40 "L" image, white ink on black: em size 26, basic layout (no shaping), ink
centred left to right, baseline at 0.70 of the cell, centred up to down only where the cell would
cut the ink off. In style "outline" only a one-pixel line around the ink is white.
"""

from functools import cache

from PIL import Image, ImageDraw, ImageFont

from fewshot_data.installed import installed_path

__all__ = ["FACES", "PRETRAINING_FACES", "STYLES", "draw"]

CELL, EM, BASELINE = 40, 26, 28
STYLES = ("plain", "outline")
PRETRAINING_FACES = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
)
FACES = (
    *PRETRAINING_FACES,
    "DejaVuSans-BoldOblique",
    "DejaVuSerif-Italic",
    "DejaVuSerif-BoldItalic",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-Oblique",
    "DejaVuSansMono-BoldOblique",
    "STIXGeneral",
)
NO_CHARACTER = 0x10FFFF  # a code point that no font may draw, so every font shows its blank box


@cache
def draw(code: int, face: str, style: str = "plain") -> Image.Image | None:
    """One character of one face, remembered for the life of the process.

    Args:
        code: Code point.
        face: One of `FACES`.
        style: One of `STYLES`.

    Returns:
        A 40×40 image of mode "L", or None where the face cannot draw the character. Callers share
        it and must not write into it.

    Raises:
        ValueError: Unknown face or style.
        FileNotFoundError: matplotlib's fonts are not installed.

    Examples:
        >>> draw(ord("A"), "DejaVuSans").size
        (40, 40)
    """
    if style not in STYLES:
        raise ValueError(f"unknown glyph style {style!r}: known: {', '.join(STYLES)}")
    image = _ink(code, face, style)
    missing = image.getbbox() is None or image.tobytes() == _missing(face, style)
    return None if missing else image


@cache
def _missing(face: str, style: str) -> bytes:
    """The pixels of the box that a face shows for a character it does not have."""
    return _ink(NO_CHARACTER, face, style).tobytes()


def _ink(code: int, face: str, style: str) -> Image.Image:
    """The drawing itself, blank box included."""
    font, text = _font(face), chr(code)
    left, top, right, bottom = font.getbbox(text, anchor="ls")
    x, y = (CELL - int(left) - int(right)) // 2, BASELINE
    if y + top < 0 or y + bottom > CELL:
        y = (CELL - int(top) - int(bottom)) // 2
    image = Image.new("L", (CELL, CELL))
    pen = ImageDraw.Draw(image)
    if style == "outline":
        pen.text((x, y), text, fill=0, font=font, anchor="ls", stroke_width=1, stroke_fill=255)
    else:
        pen.text((x, y), text, fill=255, font=font, anchor="ls")
    return image


@cache
def _font(face: str) -> ImageFont.FreeTypeFont:
    """An opened face; basic layout, because shaping depends on what else is installed."""
    if face not in FACES:
        raise ValueError(f"unknown face {face!r}: known: {', '.join(FACES)}")
    inside = f"mpl-data/fonts/ttf/{face}.ttf"
    path = installed_path("matplotlib", inside, "glyphs are drawn with matplotlib's fonts")
    return ImageFont.truetype(str(path), EM, layout_engine=ImageFont.Layout.BASIC)
