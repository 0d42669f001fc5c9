"""One's own texts: a file with a text and a label column, read by the ``datasets`` library."""

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fewshot_data.raw import RawDataset
from fewshot_data.registry import DatasetSpec
from fewshot_data.sampling import held_out
from fewshot_data.schema import read_options

__all__ = ["open_source"]

OPTIONS = {"path": "", "text_column": None, "label_column": None, "test_share": 0.2}
TEXT_NAMES = ("text", "sentence", "sentences", "review", "content", "utterance", "question")
LABEL_NAMES = ("label", "labels", "class", "category", "target", "intent")


def open_source(spec: DatasetSpec, *, seed: int) -> RawDataset:
    r"""Open a CSV, TSV, JSON, JSON lines or Parquet file of texts and labels.

    Labels may be words or whole numbers; classes are sorted, numbers by value. A fifth of each
    class (option ``test_share``), at least one text, is put aside by ``seed`` as the test set.
    The file is read into memory and nothing is written next to it.

    Args:
        spec: Its option ``path`` is the file; ``text_column`` and ``label_column`` name columns
            that are not called ``text`` and ``label`` or a usual synonym.
        seed: Selects the test texts.

    Returns:
        The texts.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it cannot be parsed, a column is missing or holds something else, or a
            class has fewer than two texts.

    Examples:
        >>> from fewshot_data import load_spec
        >>> path = Path(tempfile.mkdtemp()) / "mood.csv"
        >>> _ = path.write_text("text,label\nyes,good\nfine,good\nno,bad\nnever,bad\n")
        >>> raw = open_source(load_spec(path), seed=0)
        >>> raw.class_names, len(raw.train_indices), len(raw.test_indices)
        (('bad', 'good'), 2, 2)
    """
    options = read_options(spec.options, OPTIONS, owner="source 'table'")
    path = Path(options["path"]).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no text file '{path}': looked for a file with that exact name")
    rows = _read(path)
    text = _column("text", options["text_column"], TEXT_NAMES, rows.column_names, path)
    label = _column("label", options["label_column"], LABEL_NAMES, rows.column_names, path)
    texts = _texts(rows[text], text, path)
    labels, class_names = _classes(rows[label], rows.features[label], label, path)
    if len(class_names) < 2:
        raise ValueError(f"column '{label}' of '{path}' has one class only: two are needed")
    pool, test = held_out(labels, options["test_share"], seed=seed, class_names=class_names)
    return RawDataset(texts, labels, class_names, pool, test)


def _read(path: Path) -> Any:
    """The whole file as a ``datasets.Dataset`` in memory."""
    from datasets import Dataset

    readers: dict[str, Callable[..., Any]] = {
        ".csv": partial(_from_csv, separator=","),
        ".tsv": partial(_from_csv, separator="\t"),
        ".json": Dataset.from_json,
        ".jsonl": Dataset.from_json,
        ".parquet": Dataset.from_parquet,
    }
    # The library always caches; what it caches is thrown away, because the rows are in memory.
    with tempfile.TemporaryDirectory(prefix="fewshot-data-") as cache, _quiet_library():
        try:
            rows = readers[path.suffix.lower()](str(path), cache_dir=cache, keep_in_memory=True)
        except Exception as error:  # of the library, of pandas and of pyarrow: any kind
            if isinstance(error, StopIteration) or "no data" in str(error):
                raise _no_rows(path) from error
            reason = (str(error.__cause__ or error).splitlines() or [type(error).__name__])[0]
            raise ValueError(f"cannot read '{path}' as {path.suffix[1:]}: {reason}") from error
    if len(rows) == 0:
        raise _no_rows(path)
    return rows


def _from_csv(path: str, *, separator: str, **settings: Any) -> Any:
    """Every column as strings, so that a text such as '2020' or 'NA' stays what it is."""
    import pandas
    from datasets import Dataset, Features, Value

    columns = pandas.read_csv(path, sep=separator, nrows=0).columns
    features = Features({str(column): Value("string") for column in columns})
    return Dataset.from_csv(
        path, features=features, sep=separator, keep_default_na=False, na_values=[""], **settings
    )


@contextmanager
def _quiet_library() -> Iterator[None]:
    """Keep the library's bars and log lines off the terminal, and restore its settings."""
    import datasets

    bars = not datasets.are_progress_bars_disabled()
    level = datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        if bars:
            datasets.enable_progress_bars()


def _no_rows(path: Path) -> ValueError:
    """The error for a file without data."""
    return ValueError(f"'{path}' has no rows: give a file with a text and a label column")


def _column(
    role: str, wanted: str | None, usual: Sequence[str], columns: Sequence[str], path: Path
) -> str:
    """The column for a role: the one asked for, else the first with a usual name."""
    by_name = {column.lower(): column for column in columns}
    found = by_name.get(wanted.lower()) if wanted else None
    if wanted is None:
        found = next((by_name[name] for name in usual if name in by_name), None)
    if found is not None:
        return found
    missing = f"no column '{wanted}'" if wanted else f"no {role} column"
    raise ValueError(
        f"{missing} in '{path}': its columns are {', '.join(columns)}; name the one with the "
        f"{role}s by {role}_column=... (--{role}-column)"
    )


def _texts(values: Sequence[Any], column: str, path: Path) -> list[str]:
    """The column's texts; a gap or a number is an error that names the row."""
    for row, value in enumerate(values, start=1):
        if not isinstance(value, str):
            what = "empty" if value is None else repr(value)
            raise ValueError(
                f"row {row} of '{path}' has no text: column '{column}' is {what} there"
            )
    return list(values)


def _classes(
    values: Sequence[Any], feature: Any, column: str, path: Path
) -> tuple[list[int], tuple[str, ...]]:
    """Labels as numbers, and the class names: those stored in the file, else the sorted values."""
    for row, value in enumerate(values, start=1):
        if not isinstance(value, str | int):
            what = "empty" if value is None else repr(value)
            raise ValueError(
                f"row {row} of '{path}' has no label: column '{column}' is {what} there, "
                "and labels are words or whole numbers"
            )
    stored = getattr(feature, "names", None)
    if stored is not None:
        return list(values), tuple(stored)
    distinct = sorted(set(values), key=_by_value if all(map(_is_whole, values)) else str)
    numbers = {value: number for number, value in enumerate(distinct)}
    return [numbers[value] for value in values], tuple(str(value) for value in distinct)


def _is_whole(value: str | int) -> bool:
    """Whether a label is a whole number, spelled out or not."""
    return re.fullmatch("-?[0-9]{1,18}", str(value)) is not None


def _by_value(value: str | int) -> tuple[int, str]:
    """Sort key of whole numbers: 2 before 10."""
    return int(value), str(value)
