"""Names from files as names of pages: nothing in a name leads out of the folder of the site."""

import hashlib
import re

__all__ = ["page_name"]

PLAIN = re.compile(r"[a-z0-9]+([_-][a-z0-9]+)*")
HASHED = re.compile(r".*-[0-9a-f]{8}")


def page_name(kind: str, name: str) -> str:
    """Name the page of a backbone, a dataset or a method.

    Two names never share a page, not even on a disk that takes upper case for lower case.

    Args:
        kind: `backbone`, `dataset` or `method`.
        name: As it stands in a result file: any text.

    Returns:
        The name of a file, of lower-case letters, digits, `-` and `_`, at most 70 characters.

    Examples:
        >>> page_name("method", "linear_probe")
        'method-linear_probe.html'
        >>> page_name("dataset", "../../etc/passwd")
        'dataset-etc-passwd-3754d6cb.html'
    """
    if len(name) <= 40 and PLAIN.fullmatch(name) and not HASHED.fullmatch(name):
        return f"{kind}-{name}.html"
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].rstrip("-")
    # Surrogates can stand in JSON; they have no bytes in UTF-8.
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{kind}-{words}-{digest}.html" if words else f"{kind}-{digest}.html"
