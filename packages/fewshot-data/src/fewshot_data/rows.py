"""Tables of rows from CSV, TSV, JSON, Parquet and Arrow files, one column at a time."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fewshot_data.json_rows import JsonRows

__all__ = ["SUFFIXES", "Rows", "read_rows"]

SUFFIXES = (".parquet", ".arrow", ".jsonl", ".json", ".csv", ".tsv")


@dataclass(frozen=True)
class Rows:
    """A table, column after column.

    Args:
        columns: Name of a column to its values. Columns of strings in Parquet and Arrow files are
            read when they are asked for; others are lists.
        class_names: For columns of class numbers, what the numbers stand for, where files say so.

    Raises:
        ValueError: If columns differ in length.

    Examples:
        >>> len(Rows({"text": ["yes", "no"], "label": [1, 0]}))
        2
    """

    columns: Mapping[str, Sequence[Any]]
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len({len(column) for column in self.columns.values()}) > 1:
            sizes = {name: len(column) for name, column in self.columns.items()}
            raise ValueError(f"columns differ in length: {sizes}")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))


def read_rows(
    paths: Sequence[Path], *, quoted: bool = True, fields: Sequence[str] | None = None
) -> Rows:
    r"""Read one table from one or several files of the same kind.

    Args:
        paths: The files, in order; the suffix says the kind, one of `SUFFIXES`.
        quoted: For TSV, whether a quotation mark begins a quoted field, as it does in CSV; GLUE's
            files do without. Then an empty cell is an empty string.
        fields: For TSV without a header line, the names of its columns.

    Returns:
        The table. In CSV and TSV every value is a string, and a cell that is empty or missing is
        ``None``.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file cannot be read; it is named, with the reason.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.tsv"
        >>> _ = path.write_text('text\tlabel\nsay "no\t0\n')
        >>> read_rows([path], quoted=False).columns["text"]
        ['say "no']
    """
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"no file '{missing[0]}' (and {len(missing) - 1} more)")
    kind = paths[0].suffix.lower()
    tsv = partial(_from_quoted, delimiter="\t") if quoted else partial(_from_tsv, fields=fields)
    readers: dict[str, Callable[[Path], Rows]] = {
        ".parquet": _from_parquet,
        ".arrow": _from_arrow,
        ".jsonl": _from_json,
        ".json": _from_json,
        ".csv": partial(_from_quoted, delimiter=","),
        ".tsv": tsv,
    }
    if kind not in readers:
        raise ValueError(f"cannot read '{paths[0]}': known kinds are {', '.join(SUFFIXES)}")
    parts = [readers[kind](path) for path in paths]
    return parts[0] if len(parts) == 1 else _joined(parts, paths)


def _from_json(path: Path) -> Rows:
    """JSON or JSON lines; a key that a row lacks is ``None`` there."""
    rows = list(JsonRows(path))
    names = list(dict.fromkeys(name for row in rows for name in row))
    return Rows({name: [row.get(name) for row in rows] for name in names})


def _from_quoted(path: Path, *, delimiter: str) -> Rows:
    """CSV, or TSV with quotation marks."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [line for line in csv.reader(file, delimiter=delimiter, strict=True) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, error) from error
    width = len(lines[0]) if lines else 0
    for number, line in enumerate(lines[1:], start=1):
        if len(line) > width:
            message = f"row {number} has {len(line)} fields, the header {width}"
            raise _unreadable(path, ValueError(message))
        line += [""] * (width - len(line))
    header = lines.pop(0) if lines else []
    return Rows({name: [line[at] or None for line in lines] for at, name in enumerate(header)})


def _from_tsv(path: Path, *, fields: Sequence[str] | None) -> Rows:
    """TSV in which a quotation mark is a character like any other."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # every kind of line end becomes "\n"
    except UnicodeDecodeError as error:
        raise _unreadable(path, error) from error
    lines = [line.split("\t") for line in text.split("\n") if line]
    header = list(fields) if fields else lines.pop(0) if lines else []
    return Rows(
        {
            name: [line[at] if at < len(line) else None for line in lines]
            for at, name in enumerate(header)
        }
    )


def _from_parquet(path: Path) -> Rows:
    """Parquet, with the class names that the ``datasets`` library keeps beside the schema."""
    parquet = _arrow_module("pyarrow.parquet", path)
    try:
        return _from_table(parquet.read_table(path, partitioning=None))
    except Exception as error:  # of pyarrow: any kind, for broken files break in many places
        raise _unreadable(path, error) from error


def _from_arrow(path: Path) -> Rows:
    """A stream of Arrow batches, mapped into memory, as the ``datasets`` library writes it."""
    arrow = _arrow_module("pyarrow", path)
    try:
        return _from_table(arrow.ipc.open_stream(arrow.memory_map(str(path))).read_all())
    except Exception as error:  # of pyarrow: any kind, for broken files break in many places
        raise _unreadable(path, error) from error


def _from_table(table: Any) -> Rows:
    """An Arrow table as columns."""
    table.validate(full=True)
    kept = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    features = kept.get("info", {}).get("features", {})
    names = {
        column: tuple(feature["names"])
        for column, feature in features.items()
        if isinstance(feature, dict) and isinstance(feature.get("names"), list)
    }
    columns = {name: _column(table.column(name)) for name in table.column_names}
    return Rows(columns, names)


def _column(values: Any) -> Sequence[Any]:
    """Strings stay where they are; everything else is small and becomes a list."""
    plain = str(values.type) in ("string", "large_string") and values.null_count == 0
    return ArrowStrings(values) if plain else values.to_pylist()


class ArrowStrings(Sequence[str]):
    """A column of strings that become Python's when they are asked for.

    Args:
        values: A ``pyarrow.ChunkedArray`` of strings without gaps.
    """

    def __init__(self, values: Any) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index):  # type: ignore[override]  # no slices: nobody takes them
        """The string at ``index``."""
        return self.values[index].as_py()


def _joined(parts: Sequence[Rows], paths: Sequence[Path]) -> Rows:
    """The rows of several files, which must have the same columns and class names."""
    first = parts[0]
    for part, path in zip(parts, paths, strict=True):
        if list(part.columns) != list(first.columns) or part.class_names != first.class_names:
            raise ValueError(f"'{path}' has other columns or class names than '{paths[0]}'")
    columns = {name: [v for p in parts for v in p.columns[name]] for name in first.columns}
    return Rows(columns, first.class_names)


def _arrow_module(name: str, path: Path) -> Any:
    """pyarrow, which only these two kinds of files need."""
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise ValueError(f"reading '{path}' needs pyarrow: pip install pyarrow") from error


def _unreadable(path: Path, error: Exception) -> ValueError:
    """The error for a file that cannot be parsed."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return ValueError(f"cannot read '{path}' as {path.suffix[1:].lower()}: {reason}")
