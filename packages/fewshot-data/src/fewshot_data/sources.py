"""Where data comes from: every source by name. Each module is imported when it is first used."""

import logging
from importlib import import_module
from typing import TYPE_CHECKING

from fewshot_data.raw import RawDataset

if TYPE_CHECKING:
    from fewshot_data.registry import DatasetSpec

__all__ = ["ON_DISK", "SOURCES", "open_source", "read_source"]

SOURCES: dict[str, str] = {
    "commonsense": "fewshot_data.commonsense_files",
    "coop": "fewshot_data.coop",
    "digits": "fewshot_data.digits",
    "fgvc": "fewshot_data.fgvc",
    "few-shot-lists": "fewshot_data.few_shot_lists",
    "folder": "fewshot_data.folder",
    "glue": "fewshot_data.glue",
    "glyphs": "fewshot_data.glyphs",
    "hub": "fewshot_data.hub",
    "imagenet": "fewshot_data.imagenet",
    "imagenet-shift": "fewshot_data.imagenet_shifts",
    "table": "fewshot_data.table",
    "unicode-names": "fewshot_data.unicode_names",
    "vtab": "fewshot_data.vtab",
}
"""Name of a source to the module whose ``open_source(spec, *, seed)`` opens it."""


ON_DISK = frozenset(
    {"commonsense", "coop", "fgvc", "few-shot-lists", "glue", "imagenet", "imagenet-shift", "vtab"}
)
"""Sources that read published data from disk, of which a user may hold a part: a number of classes
or samples that differs is a warning there, and an error only where strictness is asked for."""

_log = logging.getLogger(__name__)


def open_source(spec: "DatasetSpec", *, seed: int, strict: bool = False) -> RawDataset:
    """Open the whole dataset that a spec describes.

    Args:
        spec: The dataset.
        seed: Selects the test split where the dataset has no official one.
        strict: Refuse published data whose number of classes differs, instead of warning.

    Returns:
        All samples with their labels and splits.

    Raises:
        ValueError: If what was found does not have the number of classes that the spec states.
        FileNotFoundError: If files are missing.

    Examples:
        >>> from fewshot_data import load_spec
        >>> len(open_source(load_spec("digits"), seed=0).samples)
        1797
    """
    raw = read_source(spec, seed=seed)
    if found := _other_number(spec, raw):
        if strict:
            raise ValueError(found)
        _log.warning("%s", found)
    for complaint in (*raw.complaints, *_other_names(spec, raw)):
        if strict:
            raise ValueError(f"{complaint}: the data is not the published one (strict=True)")
        _log.warning("%s", complaint)
    return raw


def read_source(spec: "DatasetSpec", *, seed: int) -> RawDataset:
    """Read the whole dataset, and leave it to the caller to say what is not as published.

    Args:
        spec: The dataset.
        seed: Selects the test split where the dataset has no official one.

    Returns:
        All samples with their labels and splits; what differs is in its ``complaints``.

    Raises:
        ValueError: If the data is broken, or is not published data on disk and does not have the
            number of classes that the spec states.
        FileNotFoundError: If files are missing.

    Examples:
        >>> from fewshot_data import load_spec
        >>> read_source(load_spec("digits"), seed=0).complaints
        ()
    """
    raw = import_module(SOURCES[spec.source]).open_source(spec, seed=seed)
    found = _other_number(spec, raw)
    if found and spec.source not in ON_DISK:
        raise ValueError(found)
    return raw


def _other_number(spec: "DatasetSpec", raw: RawDataset) -> str:
    """Say that there is another number of classes than published; empty if there is not."""
    if spec.classes in (None, len(raw.class_names)):
        return ""
    return (
        f"dataset '{spec.name}' should have {spec.classes} classes but "
        f"{len(raw.class_names)} were found: the data is not the one its spec describes"
    )


def _other_names(spec: "DatasetSpec", raw: RawDataset) -> list[str]:
    """Say where labels stand for other classes than in the published splits."""
    if len(spec.class_names) != len(raw.class_names):
        return []
    pairs = zip(spec.class_names, raw.class_names, strict=True)
    other = [(at, found, wanted) for at, (wanted, found) in enumerate(pairs) if found != wanted]
    if not other:
        return []
    at, found, wanted = other[0]
    return [
        f"dataset '{spec.name}': {len(other)} labels stand for other classes than in the published "
        f"splits, the first is {at}, '{found}' instead of '{wanted}'; base and new classes differ"
    ]
