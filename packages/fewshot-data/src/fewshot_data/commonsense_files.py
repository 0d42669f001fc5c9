"""The commonsense benchmark's files: lazy records, and each set as a few-shot dataset."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fewshot_data.fixed import size_complaints, whole_train
from fewshot_data.json_rows import JsonRows
from fewshot_data.layout import find_folder
from fewshot_data.raw import RawDataset
from fewshot_data.registry import DatasetSpec
from fewshot_data.rows import read_rows
from fewshot_data.schema import read_options
from fewshot_data.text_labels import class_numbers
from fewshot_data.text_samples import Part, TextSamples
from fewshot_data.text_splits import SPLIT_NAMES, find_split_files

__all__ = ["DERIVED", "KEYS", "TASKS", "Records", "held_out_rows", "open_source"]

TASKS = (
    *("boolq", "piqa", "social_i_qa", "hellaswag"),
    *("winogrande", "arc-easy", "arc-challenge", "openbookqa"),
)
"""The eight sets that published means are taken over."""

KEYS = ("instruction", "input", "output", "answer")
DERIVED = "the correct answer is "
"""What stands before the answer in every output."""

OPTIONS = {"answers": [], "words": [], "files": [], "held_out": 0}


class Records(Sequence[dict[str, str]]):
    """The rows of one of the benchmark's files, each with the same four keys.

    A JSON file stays on disk, and rows are parsed when they are asked for.

    Args:
        path: An array in JSON, JSON lines, or Parquet.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or a row lacks one of the four keys.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.jsonl"
        >>> _ = path.write_text(
        ...     '{"instruction": "Is it?", "input": "", "answer": "",'
        ...     ' "output": "the correct answer is true"}'
        ... )
        >>> Records(path)[0]["answer"]
        'true'
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        is_json = path.suffix.lower() in (".json", ".jsonl")
        self._rows: Any = JsonRows(path) if is_json else _Columns(path)
        if len(self._rows) == 0:
            raise ValueError(f"'{path}' has no rows")
        self.answers = [
            self._checked(row, number)["answer"] for number, row in enumerate(self._rows, start=1)
        ]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index):  # type: ignore[override]  # no slices: nobody takes them
        """The row at ``index``, with an answer."""
        return self._checked(self._rows[index], index + 1)

    def _checked(self, row: dict[str, Any], number: int) -> dict[str, str]:
        """The row if it is as it should be; an empty answer is read off the output."""
        for key in KEYS:
            if not isinstance(row.get(key), str):
                what = f"{row[key]!r} as" if key in row else "no"
                raise ValueError(
                    f"row {number} of '{self.path}' has {what} '{key}': each row needs the keys "
                    f"{', '.join(KEYS)}, all of them strings"
                )
        answer = row["answer"].strip() or row["output"].strip().removeprefix(DERIVED)
        return {**{key: row[key] for key in KEYS}, "answer": answer}


class _Columns:
    """Rows of a table as dicts."""

    def __init__(self, path: Path) -> None:
        self.columns = read_rows([path]).columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        return {name: column[index] for name, column in self.columns.items()}


class _Instructions(Sequence[str]):
    """The instructions of records, read when they are asked for."""

    def __init__(self, records: Records) -> None:
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index):  # type: ignore[override]  # no slices: nobody takes them
        return self.records[index]["instruction"]


def open_source(spec: DatasetSpec, *, seed: int) -> RawDataset:
    """Open one of the sets as a dataset: the sample is the instruction, the class is the answer.

    Published numbers are generated texts compared with answers (`fewshot_data.commonsense`), not
    accuracies of a classifier. The training file is split as the release splits it: 120 rows are
    held out by seed 42 (a quarter of a copy that is smaller than 480 rows).

    Args:
        spec: The set. Its options are the answers in label order (``answers``), what is looked for
            in responses (``words``), names of the file where it is one (``files``), and how many
            of its rows are held out (``held_out``).
        seed: Not used: the splits are fixed.

    Returns:
        Instructions, with ``train.json`` as pool and ``test.json`` to evaluate on.

    Raises:
        FileNotFoundError: If the data is not where it was looked for.
        ValueError: If a file cannot be read, or an answer is not one of the set's.
    """
    options = read_options(spec.options, OPTIONS, owner="source 'commonsense'")
    names = options["files"] or list(SPLIT_NAMES["test"])
    folder = find_folder(spec, marks=_marks(names))
    (path,) = _only(folder, names)
    main = Records(path)
    train_files = [] if options["files"] else find_split_files(folder, SPLIT_NAMES["train"])
    reads = [*map(Records, train_files[:1]), main]
    labels = [
        number
        for read in reads
        for number in class_numbers(read.answers, options["answers"], where=f"'{read.path}'")
    ]
    pool, test = _split(reads, options["held_out"])
    complaints = size_complaints(spec, {"train": len(pool), "test": len(test)})
    return RawDataset(
        samples=TextSamples([Part((_Instructions(read),)) for read in reads]),
        labels=labels,
        class_names=tuple(options["answers"]),
        train_indices=pool,
        test_indices=test,
        names=[f"{read.path.stem}/{row}" for read in reads for row in range(len(read))],
        origin=f"LLM-Adapters' {spec.name}: {len(pool)} training rows and {len(test)} rows to "
        f"evaluate on, of '{path}'",
        published=not complaints,
        official=whole_train(pool, spec.name),
        complaints=complaints,
    )


def held_out_rows(count: int, *, size: int = 120, seed: int = 42) -> tuple[list[int], list[int]]:
    """Rows to train on and rows held out, as the release's ``train_test_split`` draws them.

    Args:
        count: Rows of the training file.
        size: How many are held out.
        seed: Of the draw.

    Returns:
        Row numbers of the two parts, in the order of the draw.

    Raises:
        ValueError: If ``size`` is not below ``count``.

    Examples:
        >>> held_out_rows(10, size=3)
        ([7, 3, 2, 4, 9, 1, 8], [5, 6, 0])

    Reference:
        ``finetune.py`` of ``AGI-Edgerunners/LLM-Adapters``, with ``--val_set_size 120``.
    """
    import numpy as np

    if not 0 <= size < count:
        raise ValueError(f"size is {size}: hold out 0 to {count - 1} of the {count} rows")
    order = np.random.default_rng(seed).permutation(count).tolist()
    return order[size:], order[:size]


def _split(reads: Sequence[Records], held_out: int) -> tuple[list[int], list[int]]:
    """Positions of the rows to draw from and of those to evaluate on."""
    if held_out:
        return held_out_rows(len(reads[0]), size=min(held_out, len(reads[0]) // 4))
    first = sum(map(len, reads[:-1]))
    return list(range(first)), list(range(first, first + len(reads[-1])))


def _only(folder: Path, names: Sequence[str]) -> list[Path]:
    """The one file of a set."""
    files = find_split_files(folder, names)
    if len(files) != 1:
        raise FileNotFoundError(
            f"{len(files)} files of {', '.join(names)} in '{folder}': one was looked for"
        )
    return files


def _marks(names: Sequence[str]) -> list[str]:
    """Paths that prove that a folder holds the set."""
    files = [f"{name}{suffix}" for name in names for suffix in (".json", ".jsonl", ".parquet")]
    return [*files, *(f"data/{name}-00000-of-00001.parquet" for name in names)]
