"""Data that other packages ship, found without importing them, which can take seconds."""

from importlib.util import find_spec
from pathlib import Path

__all__ = ["installed_path"]


def installed_path(package: str, inside: str, needed_for: str) -> Path:
    """Find a file or folder inside an installed package.

    Args:
        package: Import name, such as ``"sklearn"``.
        inside: Path below the package's folder.
        needed_for: What it is for and whose it is, for the message.

    Returns:
        An existing path.

    Raises:
        FileNotFoundError: The package is not installed, or comes without it.

    Examples:
        >>> installed_path("PIL", "Image.py", "images are read by Pillow").name
        'Image.py'
    """
    spec = find_spec(package)
    for place in (spec.submodule_search_locations or []) if spec else []:
        path = Path(place) / inside
        if path.exists():
            return path
    raise FileNotFoundError(
        f"{needed_for}, which was not found: pip install 'fewshot-data[embedded]'"
    )
