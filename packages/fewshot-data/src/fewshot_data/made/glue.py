"""Tiny copies of GLUE's tasks in each of the forms in which people have them."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fewshot_data.registry import DatasetSpec, load_spec

__all__ = ["LAYOUTS", "make"]

LAYOUTS = ("parquet", "saved", "jsonl", "json", "csv", "tsv", "cache")
TRAIN, TEST, HIDDEN = 20, 6, 3  # rows per class, per class, in all

Table = dict[str, list[Any]]


def make(spec: DatasetSpec, root: Path, *, layout: str, rng: Any) -> Path:
    """Write a copy with 20 training rows of each class.

    Args:
        spec: A task of GLUE.
        root: Folder of all data.
        layout: One of `LAYOUTS`.
        rng: Not used: texts are numbered.

    Returns:
        The task's folder.
    """
    lender = spec.options.get("train_from")
    if lender:
        make(load_spec(lender), root, layout=layout, rng=rng)
    tables = _tables(spec)
    name = spec.folders[1] if layout == "tsv" else spec.folders[0]
    inside = f"nyu-mll___glue/{name}/0.0.0/0123456789abcdef" if layout == "cache" else name
    folder = root / inside
    folder.mkdir(parents=True, exist_ok=True)
    writers: dict[str, Callable[[Table, Path, str, DatasetSpec], None]] = {
        "parquet": _parquet,
        "saved": _saved,
        "jsonl": _jsonl,
        "json": _json,
        "csv": _csv,
        "tsv": _tsv,
        "cache": _cache,
    }
    for split, table in tables.items():
        writers[layout](table, folder, split, spec)
    if layout == "saved":
        (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(tables)}))
    return folder


def _tables(spec: DatasetSpec) -> dict[str, Table]:
    """Every split's rows, under the names of columns that the hub's copy has."""
    labels, regression = spec.options["labels"], spec.options.get("highest_score")
    evaluate = spec.options.get("evaluate", ["validation"])
    test = "test" if "test" in evaluate else evaluate[0]
    sizes = {"train": TRAIN * len(labels), test: TEST * len(labels), "hidden": HIDDEN}
    if spec.options.get("train_from"):
        del sizes["train"], sizes["hidden"]
    tables = {}
    for split, size in sizes.items():
        shown = test.replace("validation", "test") if split == "hidden" else split
        numbers = [row % len(labels) for row in range(size)]
        columns: Table = {
            # An open quotation mark, a comma and an umlaut: what careless readers trip over.
            name: [
                f'"{split} {row}, {name}: ä {labels[number]}' for row, number in enumerate(numbers)
            ]
            for name in spec.options["columns"]
        }
        columns["label"] = [float(n) if n else 0.4 for n in numbers] if regression else numbers
        if split == "hidden":
            columns["label"] = [-1.0 if regression else -1] * size
        columns["idx"] = list(range(size))
        tables[shown] = columns
    return tables


def _rows(table: Table) -> list[dict[str, Any]]:
    """Columns as rows."""
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]


def _dataset(table: Table, spec: DatasetSpec) -> Any:
    """The rows as the library has them, class names and all."""
    from datasets import ClassLabel, Dataset, Features, Value

    is_score = bool(spec.options.get("highest_score"))
    label = Value("float32") if is_score else ClassLabel(names=list(spec.options["labels"]))
    texts = {name: Value("string") for name in spec.options["columns"]}
    features = Features({**texts, "label": label, "idx": Value("int32")})
    return Dataset.from_dict(table, features=features)


def _parquet(table: Table, folder: Path, split: str, spec: DatasetSpec) -> None:
    """A snapshot of the hub."""
    with _no_bars():
        _dataset(table, spec).to_parquet(folder / f"{split}-00000-of-00001.parquet")


def _saved(table: Table, folder: Path, split: str, spec: DatasetSpec) -> None:
    """One split of what ``DatasetDict.save_to_disk`` writes."""
    with _no_bars():
        _dataset(table, spec).save_to_disk(str(folder / split))


def _cache(table: Table, folder: Path, split: str, spec: DatasetSpec) -> None:
    """The library's cache: the same Arrow stream under another name."""
    _saved(table, folder, split, spec)
    (folder / split / "data-00000-of-00001.arrow").rename(folder / f"glue-{split}.arrow")
    (folder / split / "dataset_info.json").rename(folder / "dataset_info.json")
    (folder / split / "state.json").unlink()
    (folder / split).rmdir()


def _jsonl(table: Table, folder: Path, split: str, spec: DatasetSpec) -> None:
    """JSON lines, labels as numbers."""
    lines = [json.dumps(row, ensure_ascii=False) for row in _rows(table)]
    (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _json(table: Table, folder: Path, split: str, spec: DatasetSpec) -> None:
    """A JSON array, labels as numbers."""
    (folder / f"{split}.json").write_text(json.dumps(_rows(table), indent=4), encoding="utf-8")


def _csv(table: Table, folder: Path, split: str, spec: DatasetSpec) -> None:
    """CSV with quotation marks where they are needed."""
    import csv

    with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table))
        writer.writeheader()
        writer.writerows(_rows(table))


def _tsv(table: Table, folder: Path, split: str, spec: DatasetSpec) -> None:
    """GLUE's own files: nothing quoted, labels as words, ``dev`` for validation."""
    options = spec.options
    words = options["labels"] if options["columns"] != ["sentence"] else ["0", "1"]
    texts = options.get("tsv_columns") or options["columns"]
    named = zip(texts, options["columns"], strict=True)
    columns = {new: table[old] for new, old in named}
    if not split.startswith("test") or options.get("train_from"):
        labels = table["label"]
        if not options.get("highest_score"):
            labels = [words[label] for label in labels]
        columns[options.get("tsv_label", "label")] = labels
    fields = options.get("tsv_fields")
    if fields and split != "test":
        blank = [""] * len(table["label"])
        columns = {name: columns.get(name, blank) for name in fields}
        lines = [[], *zip(*columns.values(), strict=True)][1:]
    else:
        columns = {"index": list(range(len(table["label"]))), **columns}
        lines = [list(columns), *zip(*columns.values(), strict=True)]
    text = "\n".join("\t".join(map(str, line)) for line in lines) + "\n"
    name = "diagnostic-full" if options.get("train_from") else split.replace("validation", "dev")
    (folder / f"{name}.tsv").write_text(text, encoding="utf-8")


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep the library's progress bars off the terminal, and restore its setting."""
    import datasets

    drawn = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if drawn:
            datasets.enable_progress_bars()
