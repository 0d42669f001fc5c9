"""A page of the documentation whose tables are those of result files, section by section."""

import re

__all__ = ["fill_page"]


def fill_page(page: str, name: str, tables: str) -> str:
    r"""Put the tables of a result into their place on a page.

    Args:
        page: Its text, with a line `<!-- begin NAME -->` and below it a line `<!-- end NAME -->`.
        name: Of the result: its file's name without the suffix.
        tables: Markdown.

    Returns:
        The page, with all between these lines replaced.

    Raises:
        ValueError: The page has no such place.

    Examples:
        >>> print(fill_page("<!-- begin a -->\nold\n<!-- end a -->", "a", "new"))
        <!-- begin a -->
        <BLANKLINE>
        new
        <BLANKLINE>
        <!-- end a -->
    """
    begin, end = (f"<!-- {word} {name} -->" for word in ("begin", "end"))
    place = re.compile(f"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
    if not place.search(page):
        raise ValueError(f"--page has no place for {name}: write the lines {begin} and {end}")
    return place.sub(lambda _: f"{begin}\n\n{tables.strip()}\n\n{end}", page)
