"""Copies on the Hugging Face hub, or a folder laid out like one, with their official splits."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fewshot_data.hub_labels import Labels, labels_like, own_labels
from fewshot_data.hub_rows import Columns, HubImages, find_columns, find_modality, load_splits
from fewshot_data.raw import RawDataset
from fewshot_data.registry import DatasetSpec, list_datasets
from fewshot_data.sampling import held_out
from fewshot_data.schema import read_options
from fewshot_data.text_samples import Part, TextSamples, check_texts

__all__ = ["PREFIX", "describe_hub", "open_source"]

PREFIX = "hub:"
"""What marks a name as one of the hub: ``hub:owner/name`` or ``hub:owner/name:configuration``."""
OPTIONS = {
    **{"id": "", "config": "", "like": "", "test_share": 0.2},
    **{"image_column": None, "text_column": None, "label_column": None},
}
SPLITS = {
    "train": ("train", "training"),
    "val": ("validation", "val", "valid", "dev", "validation_matched"),
    "test": ("test", "testing"),
}

_log = logging.getLogger(__name__)


def describe_hub(name: str) -> DatasetSpec:
    """Describe a dataset of the hub by a look at its columns, which downloads it once.

    Args:
        name: ``hub:owner/name``, ``hub:owner/name:configuration`` or ``hub:./folder``.

    Returns:
        A spec; where the registry knows the copy, with the facts of the registry.

    Raises:
        FileNotFoundError: If there is no network and no earlier download, or no such dataset.
        ValueError: If the name is no such name.

    Examples:
        >>> describe_hub("hub:")
        Traceback (most recent call last):
        ValueError: 'hub:' names no dataset: write hub:owner/name, or hub:./folder for a local copy
    """
    identity, _, config = name.removeprefix(PREFIX).partition(":")
    if not identity.strip():
        raise ValueError(
            f"'{name}' names no dataset: write {PREFIX}owner/name, "
            f"or {PREFIX}./folder for a local copy"
        )
    same = [spec for spec in list_datasets() if identity in spec.hub]
    known = next((spec for spec in same if spec.class_names), same[0] if same else None)
    options = {"id": identity, "config": config, "like": known.name if known else ""}
    return DatasetSpec(
        name=name,
        title=f"'{identity}' of the Hugging Face hub",
        modality=find_modality(load_splits(identity, config)),
        source="hub",
        classes=None,
        licence=known.licence if known else "unknown",
        citation=known.citation if known else "",
        templates=known.templates if known else {"plain": ("a photo of a {}.",)},
        notes="The official split of a copy on the hub; not the split of CoOp or VPT.",
        options=options,
        hub=(identity,),
        transforms=known.transforms if known else "",
    )


def open_source(spec: DatasetSpec, *, seed: int) -> RawDataset:
    """Open a dataset of the hub with its official splits.

    The image column is the one of type image, the text column the one of strings, the labels the
    column of type class label, or one with a usual name. Splits are the copy's own; a copy with
    validation but without (labelled) test images is measured on validation, one with a single
    split has a share of every class put aside. Rows lose their file names on the hub, so the
    splits of CoOp and VPT, which go by file names, cannot be rebuilt, and the result says so.
    Where the registry knows the class names of the copy's dataset, labels follow the registry:
    copies of Food-101 and Caltech101 number classes in another order.

    Args:
        spec: Options: ``id``, ``config``, ``like`` (the registry's name for the dataset),
            ``image_column``, ``text_column``, ``label_column``, ``test_share``.
        seed: Selects test samples where there is one split only.

    Returns:
        The samples, marked as not the published split.

    Raises:
        FileNotFoundError: If there is no network and no earlier download, or no such dataset.
        ValueError: If columns are missing, or class names do not match the registry's.

    Examples:
        >>> from dataclasses import replace
        >>> from fewshot_data import load_spec
        >>> open_source(replace(load_spec("digits"), options={"id": "./no-such-folder"}), seed=0)
        Traceback (most recent call last):
        FileNotFoundError: no folder './no-such-folder': looked for a copy laid out as on the hub
    """
    options = read_options(spec.options, OPTIONS, owner="source 'hub'")
    splits = load_splits(options["id"], options["config"])
    columns = find_columns(splits, options, options["id"])
    parts = _parts(splits, columns.label)
    values = {part: rows[columns.label] for part, rows in parts.items()}
    labels = _labels(options["like"], columns, values)
    kept = {part: [i for i, at in enumerate(labels.of[part]) if at is not None] for part in parts}
    samples = _samples(columns, {part: rows.select(kept[part]) for part, rows in parts.items()})
    numbers = {part: [n for n in labels.of[part] if n is not None] for part in parts}
    flat = [number for part in parts for number in numbers[part]]
    positions = _positions({part: len(numbers[part]) for part in parts})
    if "test" not in parts:
        pool, test = held_out(
            flat, options["test_share"], seed=seed, class_names=labels.class_names
        )
        positions = {"train": pool, "test": test}
    origin = (
        f"'{options['id']}' of the Hugging Face hub, splits {', '.join(splits)}; "
        f"not the split of CoOp or VPT; {labels.how}"
    )
    return RawDataset(
        samples,
        flat,
        labels.class_names,
        positions["train"],
        positions["test"],
        positions.get("val", []),
        origin=origin,
        published=False,
    )


def _parts(splits: Mapping[str, Any], label: str) -> dict[str, Any]:
    """The splits by the part they play; without labelled test rows, validation is the test."""
    found: dict[str, Any] = {}
    for part, aliases in SPLITS.items():
        name = next((alias for alias in aliases if alias in splits), None)
        if name is not None and _labelled(splits[name], label):
            found[part] = splits[name]
    if not found:
        found["train"] = splits[next(iter(splits))]
    if "test" not in found and "val" in found and "train" in found:
        found["test"] = found.pop("val")
    if "train" not in found:
        only = next(iter(found.values()))
        _log.warning("no training split among %s: a share of its samples is put aside", [*splits])
        found = {"train": only}
    return found


def _labelled(rows: Any, label: str) -> bool:
    """Whether a split has labels; benchmarks write -1 for those that they keep secret."""
    return label in rows.column_names and any(v not in (None, -1, "-1") for v in rows[label])


def _labels(like: str, columns: Columns, values: Mapping[str, Sequence[Any]]) -> Labels:
    """Labels in the registry's order where it knows the names, else in the copy's own."""
    own = own_labels(values, columns.class_names)
    known = next((spec for spec in list_datasets() if spec.name == like), None)
    return labels_like(own, known) if known and known.class_names else own


def _samples(columns: Columns, parts: Mapping[str, Any]) -> Sequence[Any]:
    """All samples, part after part."""
    if columns.modality == "image":
        return HubImages(list(parts.values()), columns.samples[0])
    return TextSamples(
        [
            Part(tuple(check_texts(list(rows[name]), name, "the copy") for name in columns.samples))
            for rows in parts.values()
        ]
    )


def _positions(sizes: Mapping[str, int]) -> dict[str, list[int]]:
    """Where each part's samples lie among all."""
    start, positions = 0, {}
    for part, size in sizes.items():
        positions[part] = list(range(start, start + size))
        start += size
    return positions
