"""Training on a draw that lies in a file: one's own, or one of CoOp's caches read into JSON."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fewshot_data.base_new import subsample as subsampled
from fewshot_data.batches import Split
from fewshot_data.drawn_split import read_drawn
from fewshot_data.loaders import FewShotData, few_shot
from fewshot_data.registry import DatasetSpec
from fewshot_data.split_file import Item

__all__ = ["few_shot_from"]


def few_shot_from(
    path: str | Path,
    dataset: str | Path | DatasetSpec,
    *,
    transform: Any = None,
    root: str | Path | None = None,
    strict: bool = False,
    subsample: str = "all",
) -> FewShotData:
    """Take the training and validation samples from a file instead of drawing them.

    Samples are found by their path below the image folder, so the data may lie anywhere.

    Args:
        path: What ``fewshot-data sample --out`` or `drawn_split.write_drawn` wrote, drawn over all
            classes.
        dataset: As for `few_shot`.
        transform: As for `few_shot`.
        root: As for `few_shot`.
        strict: As for `few_shot`.
        subsample: As for `few_shot`.

    Returns:
        The few-shot data; ``protocol``, ``shots`` and ``seed`` are those that the file states.

    Raises:
        FileNotFoundError: If the file or the data is missing.
        ValueError: If the file is no draw, or not one of this data: samples that are not there (all
            are counted), or labels that stand for other classes.

    Examples:
        >>> import tempfile
        >>> from fewshot_data.drawn_split import split_table, write_drawn
        >>> data = few_shot("digits", 2, seed=3)
        >>> path = write_drawn(split_table(data), Path(tempfile.mkdtemp()) / "split.json")
        >>> few_shot_from(path, "digits").train.indices == data.train.indices
        True
    """
    items, meta = read_drawn(path)
    shots, seed = (_number(meta, name, path) for name in ("shots", "seed"))
    data = few_shot(dataset, 0, seed=seed, root=root, strict=strict)
    train, val = (_part(data, items[name], path) for name in ("train", "val"))
    drawn = dataclasses.replace(
        data,
        shots=shots,
        protocol=str(meta.get("protocol", "file")),
        train=train,
        val=val if len(val) else None,
    )
    return subsampled(drawn.with_transform(transform), subsample)


def _number(meta: dict[str, Any], name: str, path: str | Path) -> int:
    """What the file states; a file of another program states nothing, which counts as 0."""
    value = meta.get(name, 0)
    if type(value) is not int:
        raise ValueError(f"'{path}': meta.{name} is {str(value)[:40]!r}, not a whole number")
    return value


def _part(data: FewShotData, items: Sequence[Item], path: str | Path) -> Split:
    """The samples that a list names."""
    every, labels = data.train.samples, data.train.labels
    names = data.names or tuple(f"#{i}" for i in range(len(labels)))
    places = {name: i for i, name in enumerate(names)}
    lacking = [item.path for item in items if item.path not in places]
    if lacking:
        raise ValueError(
            f"'{path}': {len(lacking)} of {len(items)} samples are not in dataset "
            f"'{data.spec.name}', such as '{lacking[0]}': it is a draw of other data"
        )
    for item in items:
        label = labels[places[item.path]]
        if label != item.label or data.class_names[label] != item.name:
            raise ValueError(
                f"'{path}': '{item.path}' is of class {item.label} ('{item.name}') there, but of "
                f"class {label} ('{data.class_names[label]}') in dataset '{data.spec.name}': "
                "give a draw over all classes of this data"
            )
    return Split(every, labels, [places[item.path] for item in items], data.spec.modality)
