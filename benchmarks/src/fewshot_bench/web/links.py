"""Check every link of a built site without a server: files, folders and places within pages.

`python -m fewshot_bench.web.links SITE` prints what leads nowhere and fails if anything does.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["broken_links"]


class _Page(HTMLParser):
    """The addresses that a page names, and the places in it that can be named."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect what one tag names."""
        for name, value in attrs:
            if name in ("href", "src") and value is not None:
                self.links.append(value)
            elif name in ("id", "name") and value:
                self.places.add(value)


def broken_links(site: str | Path) -> list[str]:
    """Find the links that lead nowhere; addresses on other machines are not asked for.

    Args:
        site: The folder of a built site; `404.html`, whose links depend on the server, is left out.

    Returns:
        A line per broken link: the page and the address. Empty when every link holds.

    Raises:
        FileNotFoundError: There is no page in the folder.
    """
    site = Path(site).resolve()
    files = [path for path in sorted(site.rglob("*.html")) if path.name != "404.html"]
    if not files:
        raise FileNotFoundError(f"no page in {site}: `nox -s site` builds one")
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in files}
    return [
        f"{path.relative_to(site)}: {link}"
        for path, page in pages.items()
        for link in dict.fromkeys(page.links)
        if not _holds(link, path, site, pages)
    ]


def _holds(link: str, path: Path, site: Path, pages: dict[Path, _Page]) -> bool:
    """Follow one link."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return True
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target = target / "index.html"
    if not target.is_relative_to(site) or not target.is_file():
        return False
    place = unquote(parts.fragment)
    return not place or target not in pages or place in pages[target].places


if __name__ == "__main__":
    found = broken_links(sys.argv[1] if len(sys.argv) > 1 else "site")
    print("\n".join(found) or "every link holds")
    sys.exit(bool(found))
