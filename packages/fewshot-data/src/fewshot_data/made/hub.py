"""Tiny copies of a dataset of the hub: Parquet files with an image and a class-label column."""

import io
from pathlib import Path
from random import Random
from typing import Any

from fewshot_data.made.pictures import picture
from fewshot_data.registry import DatasetSpec

__all__ = ["LAYOUTS", "make"]

LAYOUTS = ("parquet",)
NAMES = ("apple_pie", "cheesecake", "cheese_plate")
SIZES = {"train": 4, "validation": 2}


def make(spec: DatasetSpec, root: Path, *, layout: str, rng: Random) -> Path:
    """Write what ``hf download`` leaves: ``data/train-00000-of-00001.parquet`` and its siblings.

    Args:
        spec: A dataset; its ``class_names`` are used if it has some.
        root: Folder of all data.
        layout: One of `LAYOUTS`.
        rng: Of the pictures.

    Returns:
        The folder of the copy, for ``hub:./folder``.

    Examples:
        >>> import tempfile
        >>> from fewshot_data import load_spec
        >>> folder = make(
        ...     load_spec("digits"), Path(tempfile.mkdtemp()), layout="parquet", rng=Random(0)
        ... )
        >>> sorted(path.name for path in (folder / "data").iterdir())
        ['train-00000-of-00001.parquet', 'validation-00000-of-00001.parquet']
    """
    import pyarrow
    import pyarrow.parquet

    names = spec.class_names or NAMES
    stored = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    folder = root / spec.name.replace("hub:", "").replace("/", "--")
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for split, size in SIZES.items():
        labels = [label for label in range(len(names)) for _ in range(size)]
        images = pyarrow.array([_png(label, rng) for label in labels], stored)
        table = pyarrow.table({"image": images, "label": labels})
        table = table.replace_schema_metadata({"huggingface": _features(names)})
        pyarrow.parquet.write_table(table, folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


def _png(label: int, rng: Random) -> dict[str, Any]:
    """An image as the library stores it."""
    stream = io.BytesIO()
    picture(label, rng).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


def _features(names: tuple[str, ...]) -> str:
    """The types of the columns, as the library writes them into a Parquet file."""
    import json

    features = {"image": {"_type": "Image"}, "label": {"names": [*names], "_type": "ClassLabel"}}
    return json.dumps({"info": {"features": features}})
