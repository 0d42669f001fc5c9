"""How numbers and tables are written in Markdown."""

from collections.abc import Iterable, Sequence

__all__ = ["MIB", "blocks", "markdown_table", "milliseconds"]

MIB = 2**20


def milliseconds(seconds: float | None) -> str:
    """Write seconds in milliseconds, with the digits that mean something.

    Args:
        seconds: How many; none is zero.

    Returns:
        The number.

    Examples:
        >>> milliseconds(0.0123456), milliseconds(4.2)
        ('12.35', '4200')
    """
    value = 1e3 * (seconds or 0.0)
    return f"{value:.0f}" if value >= 1000 else f"{value:.4g}"


def blocks(depth: int | None) -> str:
    """Say how many blocks there were.

    Args:
        depth: The number; none is all.

    Returns:
        Words.

    Examples:
        >>> blocks(None), blocks(1)
        ('all blocks', '1 block')
    """
    return "all blocks" if depth is None else f"{depth} block" + "s" * (depth != 1)


def markdown_table(head: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table that is readable as text too: padded, numbers to the right.

    Args:
        head: Stands above, in bold.
        columns: Names of the columns.
        rows: The cells.

    Returns:
        Markdown without a line end.
    """
    cells = [list(columns), *map(list, rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    lines = [
        "| " + " | ".join(_pad(c, w, i) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        + " |"
        for row in cells
    ]  # fmt: skip
    rule = "|" + "|".join(("-" * (w + 2)) if i == 0 else "-" * (w + 1) + ":"
                          for i, w in enumerate(widths)) + "|"  # fmt: skip
    return "\n".join([f"**{head}**", "", lines[0], rule, *lines[1:]])


def _pad(cell: str, width: int, column: int) -> str:
    """Fill a cell: names to the left, all else to the right."""
    return cell.ljust(width) if column == 0 else cell.rjust(width)
