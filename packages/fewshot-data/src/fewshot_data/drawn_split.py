"""A draw as a file: CoOp's split form for what was drawn, and where it came from beside it."""

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewshot_data.split_file import Items, load_split, parse_split

if TYPE_CHECKING:
    from fewshot_data.batches import Split
    from fewshot_data.loaders import FewShotData

__all__ = ["read_drawn", "split_table", "write_drawn"]


def split_table(data: "FewShotData") -> dict[str, Any]:
    """Describe a draw in CoOp's split form.

    Args:
        data: What `few_shot` drew.

    Returns:
        ``train`` and ``val`` as lists of ``[path, label, class name]``, and ``meta``: dataset,
        shots, seed, protocol, and where the splits came from. Samples without files are named by
        their position, as in ``#17``.

    Examples:
        >>> from fewshot_data import few_shot
        >>> split_table(few_shot("digits", 1, seed=1))["meta"]["shots"]
        1
    """
    meta = {
        "dataset": data.spec.name,
        "shots": data.shots,
        "seed": data.seed,
        "protocol": data.protocol,
        "origin": data.origin,
        "published": data.published,
    }
    parts = {"train": data.train, "val": data.val}
    return {
        **{name: _rows(data, part) if part else [] for name, part in parts.items()},
        "meta": meta,
    }


def write_drawn(table: Mapping[str, Any], path: str | Path) -> Path:
    """Write a draw, whole or not at all.

    Args:
        table: Of `split_table`, or of `fewshot_data.coop_pickles.read_pickle`.
        path: The file; its folder is made if it is missing.

    Returns:
        The file.

    Raises:
        OSError: If it cannot be written; what was there before is still there.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "split.json"
        >>> write_drawn({"train": [["a.jpg", 0, "owl"]], "val": []}, path).name
        'split.json'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with beside.open("x", encoding="utf-8") as file:
            json.dump(table, file, indent=4, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def read_drawn(path: str | Path) -> tuple[Items, dict[str, Any]]:
    """Read a draw back.

    Args:
        path: What `write_drawn` wrote.

    Returns:
        The samples of ``train`` and ``val``, and ``meta``.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is no such file.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "split.json"
        >>> _ = write_drawn({"train": [["a.jpg", 0, "owl"]], "val": [], "meta": {"seed": 1}}, path)
        >>> items, meta = read_drawn(path)
        >>> items["train"][0].path, meta
        ('a.jpg', {'seed': 1})
    """
    path = Path(path)
    table = load_split(path)
    items = parse_split(table, path, ("train", "val"), repeats=True, gaps=True)
    meta = table.get("meta", {})
    if not isinstance(meta, dict):
        raise ValueError(f"'{path}': meta must be a table, got {str(meta)[:40]!r}")
    return items, meta


def _rows(data: "FewShotData", part: "Split") -> list[list[Any]]:
    """The samples of one part."""
    names = data.names
    return [
        [names[i] if names else f"#{i}", part.labels[i], data.class_names[part.labels[i]]]
        for i in part.indices
    ]
