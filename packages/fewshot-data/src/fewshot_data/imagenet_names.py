"""ImageNet's class names where no ``classnames.txt`` is at hand: from libraries, if installed."""

import ast
from functools import cache
from pathlib import Path
from types import MappingProxyType

from fewshot_data.installed import installed_path

__all__ = ["installed_names"]

IDS = ("timm", "data/_info/imagenet_synsets.txt", "ImageNet's ids come with timm")
NAMES = ("open_clip", "zero_shot_metadata.py", "ImageNet's names come with open_clip")


@cache
def installed_names() -> MappingProxyType[str, str]:
    """The 1000 classes as CLIP names them, put together from timm's ids and open_clip's names.

    Both libraries list the classes in label order, which is the order of the sorted WordNet ids.
    Their files are read and neither is imported, which would take ten seconds.

    Returns:
        WordNet id to name, sorted by id; empty where one of the two is not installed.

    Examples:
        >>> installed_names().get("n01440764", "tench")
        'tench'

    Reference:
        The prompt engineering notebook of openai/CLIP, whose list open_clip has.
    """
    try:
        ids = installed_path(*IDS).read_text(encoding="utf-8").split()
        names = _list_in(installed_path(*NAMES), "IMAGENET_CLASSNAMES")
    except (OSError, ValueError):  # not installed, or a release that has them elsewhere
        return MappingProxyType({})
    if len(ids) != len(names) or ids != sorted(ids):
        return MappingProxyType({})  # another release, whose lists do not belong together
    return MappingProxyType(dict(zip(ids, names, strict=True)))


def _list_in(path: Path, variable: str) -> tuple[str, ...]:
    """The strings that a Python file assigns to a variable; the file is parsed and not run."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == variable:
            return tuple(ast.literal_eval(node.value))
    raise ValueError(f"'{path}' has no {variable}")
