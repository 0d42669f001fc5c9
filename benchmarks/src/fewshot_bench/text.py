"""Numbers as people read them: one spelling for the terminal, the page and the figures."""

from fewshot_bench.statistics import Cell

__all__ = ["accuracy", "count", "duration", "scaled", "shorten", "size"]


def accuracy(cell: Cell | None) -> str:
    """Write a cell's accuracy in per cent, its interval and how many runs stand behind it.

    Args:
        cell: The runs; `None` where there are none.

    Returns:
        Text such as `93.0 ± 4.0 (3)`, `93.0 (1)`, `92.1 ± 5.5 (2 of 3)` or `–`.
    """
    if cell is None:
        return "–"
    value, failed = cell.accuracy, len(cell.failed)
    if value is None:
        return f"{failed} failed"
    spread = "" if value.half_width is None else f" ± {100 * value.half_width:.1f}"
    lost = f" of {len(cell.completed) + failed}" if failed else ""
    return f"{100 * value.mean:.1f}{spread} ({value.count}{lost})"


def size(number: float | None) -> str:
    """Write a number of bytes.

    Args:
        number: Bytes, or `None` when unknown.

    Returns:
        Text such as `1.9 MB`, in powers of 1000.

    Examples:
        >>> size(1_912_000), size(640), size(None)
        ('1.9 MB', '640 B', '–')
    """
    return _scaled(number, (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0)), " ")


def count(number: float | None) -> str:
    """Write how many there are.

    Args:
        number: A whole number, or `None` when unknown.

    Returns:
        Text such as `12.3k`.

    Examples:
        >>> count(12_345), count(970), count(0)
        ('12.3k', '970', '0')
    """
    return _scaled(number, (("M", 1e6), ("k", 1e3), ("", 1.0)), "")


def duration(seconds: float | None) -> str:
    """Write a duration.

    Args:
        seconds: Seconds, or `None` when unknown.

    Returns:
        Text such as `8.1 ms`.

    Examples:
        >>> duration(0.0081), duration(72.0)
        ('8.1 ms', '72.0 s')
    """
    return _scaled(seconds, (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)), " ")


def scaled(number: float | None, unit: float) -> str:
    """Write a number in a unit that a column's header names.

    Args:
        number: What was measured, or `None` when unknown; 0 is what nobody measured.
        unit: The size of the unit: 1e6 for megabytes.

    Returns:
        Text with one decimal, such as `1.9`.

    Examples:
        >>> scaled(1_912_000, 1e6), scaled(0.0081, 1e-3), scaled(None, 1e6)
        ('1.9', '8.1', '–')
    """
    return f"{number / unit:.1f}" if number else "–"


def shorten(label: str, length: int = 28) -> str:
    """Cut a label that would push the axes out of a figure; tables show it whole.

    Args:
        label: The name of a row.
        length: The most characters to show.

    Returns:
        The label, or its beginning and an ellipsis.

    Example:
        >>> shorten("so, lr 0.001", 8)
        'so, lr …'
    """
    return label if len(label) <= length else label[: length - 1] + "…"


def _scaled(number: float | None, units: tuple[tuple[str, float], ...], space: str) -> str:
    """Write a number in the largest unit that leaves at least one whole."""
    if number is None:
        return "–"
    unit, scale = next((pair for pair in units if abs(number) >= pair[1]), units[-1])
    digits = 0 if scale == 1 and unit in ("", "B") else 1
    return f"{number / scale:.{digits}f}{space}{unit}"
