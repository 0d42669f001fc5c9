"""Tiny copies of published datasets in their exact layout, made up on the spot."""

from importlib import import_module
from pathlib import Path
from random import Random

from fewshot_data.registry import DatasetSpec

__all__ = ["MAKERS", "layouts", "make"]

MAKERS: dict[str, str] = {
    "commonsense": "fewshot_data.made.commonsense",
    "few-shot-lists": "fewshot_data.made.few_shot_lists",
    "fgvc": "fewshot_data.made.fgvc",
    "coop": "fewshot_data.made.coop",
    "glue": "fewshot_data.made.glue",
    "imagenet": "fewshot_data.made.imagenet",
    "imagenet-shift": "fewshot_data.made.imagenet",
    "hub": "fewshot_data.made.hub",
    "vtab": "fewshot_data.made.vtab",
}
"""Name of a source to the module that writes a copy: ``LAYOUTS`` and ``make(spec, root, …)``."""


def make(spec: DatasetSpec, root: str | Path, *, layout: str | None = None, seed: int = 0) -> Path:
    """Write a tiny copy of a dataset, in a layout in which people have it.

    The copy has made-up contents, a few samples of each class, and the oddities of the real one.

    Args:
        spec: The dataset.
        root: Folder of all data; made if it is missing.
        layout: One of `layouts`; the first where none is given.
        seed: Of whatever is random in the contents.

    Returns:
        The dataset's folder, somewhere below the root.

    Raises:
        ValueError: If the dataset does not lie on disk, or the layout is unknown.

    Examples:
        >>> import tempfile
        >>> from fewshot_data import load_spec
        >>> make(load_spec("rte"), tempfile.mkdtemp(), layout="tsv").name
        'RTE'
    """
    known = layouts(spec)
    if layout is not None and layout not in known:
        raise ValueError(f"unknown layout '{layout}' of '{spec.name}': known: {', '.join(known)}")
    root = Path(root).expanduser()
    root.mkdir(parents=True, exist_ok=True)
    maker = import_module(MAKERS[spec.source])
    return maker.make(spec, root, layout=layout or known[0], rng=Random(seed))


def layouts(spec: DatasetSpec) -> tuple[str, ...]:
    """The layouts that a copy of a dataset can have.

    Args:
        spec: The dataset.

    Returns:
        Their names, the preferred one first.

    Raises:
        ValueError: If no copy of it can be made.

    Examples:
        >>> from fewshot_data import load_spec
        >>> "tsv" in layouts(load_spec("rte"))
        True
    """
    if spec.source not in MAKERS:
        raise ValueError(
            f"no copy of '{spec.name}' can be made: its source is '{spec.source}', "
            f"and there are makers for {', '.join(MAKERS)}"
        )
    return tuple(import_module(MAKERS[spec.source]).LAYOUTS)
