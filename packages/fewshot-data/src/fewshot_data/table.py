"""One's own texts: a file, or a folder of splits, with one or two text columns and labels."""

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fewshot_data.raw import RawDataset
from fewshot_data.registry import DatasetSpec
from fewshot_data.rows import Rows, read_rows
from fewshot_data.sampling import held_out
from fewshot_data.schema import read_options
from fewshot_data.text_labels import HIDDEN
from fewshot_data.text_samples import Part, TextSamples, check_texts
from fewshot_data.text_splits import SPLIT_NAMES, read_splits, saved_files

__all__ = ["open_source"]

OPTIONS = {"path": "", "text_column": None, "label_column": None, "test_share": 0.2}
TEXT_NAMES = ("text", "sentence", "sentences", "review", "content", "utterance", "question")
PAIR_NAMES = (("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"))
LABEL_NAMES = ("label", "labels", "class", "category", "target", "intent")

_log = logging.getLogger(__name__)


def open_source(spec: DatasetSpec, *, seed: int) -> RawDataset:
    r"""Open a CSV, TSV, JSON, JSON lines or Parquet file, or a folder with one for each split.

    A folder may also be what ``save_to_disk`` of the ``datasets`` library wrote. Labels may be
    words or whole numbers; classes are sorted, numbers by value, unless the file names them. With
    a training split and another one, ``test`` is what accuracy is measured on, or ``validation``
    where there is no test split with labels. Otherwise a fifth of each class (option
    ``test_share``), at least one text, is put aside by ``seed``. Nothing is written.

    Args:
        spec: Its option ``path`` is the file or folder; ``text_column`` and ``label_column`` name
            columns that are not called ``text`` and ``label`` or a usual synonym. Sentence pairs
            are two columns, ``"first,second"``, or such usual ones as ``sentence1, sentence2``.
        seed: Selects the test texts where there are no splits.

    Returns:
        The texts, or pairs of texts.

    Raises:
        FileNotFoundError: If there is no such file, or no split in the folder.
        ValueError: If a file cannot be parsed, a column is missing or holds something else, or a
            class has fewer than two texts.

    Examples:
        >>> import tempfile
        >>> from fewshot_data import load_spec
        >>> path = Path(tempfile.mkdtemp()) / "mood.csv"
        >>> _ = path.write_text("text,label\nyes,good\nfine,good\nno,bad\nnever,bad\n")
        >>> raw = open_source(load_spec(path), seed=0)
        >>> raw.class_names, len(raw.train_indices), len(raw.test_indices)
        (('bad', 'good'), 2, 2)
    """
    options = read_options(spec.options, OPTIONS, owner="source 'table'")
    path = Path(options["path"]).expanduser()
    splits = _splits(path)
    texts = _text_columns(options["text_column"], splits["train"], path)
    label = _column("label", options["label_column"], LABEL_NAMES, splits["train"], path)
    splits = _labelled(splits, label, path)
    parts = [
        Part(tuple(check_texts(_of(rows, name, split, path), name, f"'{path}'") for name in texts))
        for split, rows in splits.items()
    ]
    values = [_label_values(rows, label, path) for rows in splits.values()]
    class_names = _class_names(values, [rows.class_names.get(label) for rows in splits.values()])
    if len(class_names) < 2:
        raise ValueError(f"column '{label}' of '{path}' has one class only: two are needed")
    numbers = {name: number for number, name in enumerate(class_names)}
    labels = [numbers[str(value)] for column in values for value in column]
    if len(splits) == 1:
        pool, test = held_out(labels, options["test_share"], seed=seed, class_names=class_names)
        return RawDataset(TextSamples(parts), labels, class_names, pool, test)
    return _with_splits(dict(zip(splits, parts, strict=True)), labels, class_names)


def _splits(path: Path) -> dict[str, Rows]:
    """The tables at a path, ``train`` first; a file is a training split."""
    if path.is_dir():
        if (path / "state.json").is_file():
            found = {"train": read_rows(saved_files(path))}
        else:
            found = read_splits(path, SPLIT_NAMES)
        if "train" not in found:
            names = ", ".join(found) or "none"
            raise FileNotFoundError(
                f"no training split in '{path}': looked for train.csv, .tsv, .json, .jsonl, "
                f".parquet, train-00000-of-00001.parquet or a saved train/; found {names}"
            )
    elif path.is_file():
        found = {"train": read_rows([path])}
    else:
        raise FileNotFoundError(f"no text file '{path}': looked for a file with that exact name")
    if len(found["train"]) == 0:
        raise ValueError(f"'{path}' has no rows: give a file with a text and a label column")
    return found


def _labelled(splits: dict[str, Rows], label: str, path: Path) -> dict[str, Rows]:
    """The splits without those whose labels are kept secret, as benchmarks do with test splits."""
    kept = {}
    for split, rows in splits.items():
        hidden = label not in rows.columns or set(rows.columns[label]) <= {HIDDEN, None}
        if hidden and split != "train":
            _log.warning("the %s split of '%s' has no labels: left out", split, path)
        else:
            kept[split] = rows
    return kept


def _with_splits(
    parts: Mapping[str, Part], labels: list[int], class_names: tuple[str, ...]
) -> RawDataset:
    """Texts with splits of their own."""
    indices: dict[str, list[int]] = {}
    start = 0
    for split, part in parts.items():
        indices[split] = list(range(start, start + len(part)))
        start += len(part)
    test = indices.pop("test", None) or indices.pop("validation")
    val = indices.get("validation", [])
    names = [f"{split}/{row}" for split, part in parts.items() for row in range(len(part))]
    samples = TextSamples(list(parts.values()))
    return RawDataset(samples, labels, class_names, indices["train"], test, val, names)


def _text_columns(wanted: str | None, rows: Rows, path: Path) -> list[str]:
    """One column, or the two of a pair."""
    lower = {name.lower() for name in rows.columns}
    if wanted and "," in wanted and wanted.lower() not in lower:
        parts = [part.strip() for part in wanted.split(",")]
        if len(parts) != 2:
            raise ValueError(f"text_column is '{wanted}': name one column, or two with a comma")
        return [_column("text", part, (), rows, path) for part in parts]
    if wanted is None and not lower & set(TEXT_NAMES):
        pair = next((pair for pair in PAIR_NAMES if lower.issuperset(pair)), ())
        if pair:
            return [_column("text", part, (), rows, path) for part in pair]
    return [_column("text", wanted, TEXT_NAMES, rows, path)]


def _column(role: str, wanted: str | None, usual: Sequence[str], rows: Rows, path: Path) -> str:
    """The column for a role: the one asked for, else the first with a usual name."""
    by_name = {column.lower(): column for column in rows.columns}
    found = by_name.get(wanted.lower()) if wanted else None
    if wanted is None:
        found = next((by_name[name] for name in usual if name in by_name), None)
    if found is not None:
        return found
    missing = f"no column '{wanted}'" if wanted else f"no {role} column"
    raise ValueError(
        f"{missing} in '{path}': its columns are {', '.join(rows.columns)}; name the one with the "
        f"{role}s by {role}_column=... (--{role}-column)"
    )


def _of(rows: Rows, name: str, split: str, path: Path) -> Sequence[Any]:
    """A column that the training split has, in another split."""
    if name not in rows.columns:
        raise ValueError(f"the {split} split of '{path}' has no column '{name}'")
    return rows.columns[name]


def _label_values(rows: Rows, column: str, path: Path) -> list[str]:
    """Labels as words; a number that the file gives a name is that name."""
    stored = rows.class_names.get(column)
    for row, value in enumerate(rows.columns[column], start=1):
        unknown = stored is not None and not (isinstance(value, int) and 0 <= value < len(stored))
        if unknown or not isinstance(value, str | int):
            what = "empty" if value is None else repr(value)
            raise ValueError(
                f"row {row} of '{path}' has no label: column '{column}' is {what} there, "
                "and labels are words or whole numbers"
            )
    values = rows.columns[column]
    return [str(value) if stored is None else stored[value] for value in values]


def _class_names(
    values: Sequence[Sequence[str]], stored: Sequence[tuple[str, ...] | None]
) -> tuple[str, ...]:
    """The names that the files agree on, else the sorted labels, numbers by value."""
    if stored[0] is not None and all(names == stored[0] for names in stored):
        return stored[0]
    distinct = {value for column in values for value in column}
    return tuple(sorted(distinct, key=_by_value if all(map(_is_whole, distinct)) else str))


def _is_whole(value: str) -> bool:
    """Whether a label is a whole number, spelled out."""
    return re.fullmatch("-?[0-9]{1,18}", value) is not None


def _by_value(value: str) -> tuple[int, str]:
    """Sort key of whole numbers: 2 before 10."""
    return int(value), value
