"""GLUE: sentences and sentence pairs, from every form in which people keep them."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewshot_data.fixed import size_complaints, whole_train
from fewshot_data.glue_places import find_glue
from fewshot_data.raw import RawDataset
from fewshot_data.registry import DatasetSpec, load_spec
from fewshot_data.rows import Rows, read_rows
from fewshot_data.schema import read_options
from fewshot_data.text_labels import HIDDEN, class_numbers, score_levels, scores
from fewshot_data.text_samples import Part, TextSamples, check_texts
from fewshot_data.text_splits import SPLIT_NAMES, find_split_files

__all__ = ["official_rows", "open_source"]

OPTIONS = {
    "columns": [],
    "labels": [],
    "evaluate": list(SPLIT_NAMES["validation"]),
    "train_from": "",
    "highest_score": 0,
    "tsv_columns": [],
    "tsv_label": "label",
    "tsv_fields": [],
    "official_labels": [],
}
SHUFFLE_SEED = 42

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Read:
    """One split: its sentences and labels, and the files they came from."""

    part: Part
    labels: list[int]
    files: list[Path]


def open_source(spec: DatasetSpec, *, seed: int) -> RawDataset:
    """Open one task of GLUE.

    Shots are drawn from the training split; accuracy is measured on the whole validation split,
    because GLUE keeps the labels of its test split to itself.

    Args:
        spec: The task. Its options say which columns hold the sentences (``columns``, in GLUE's own
            TSV files ``tsv_columns``), the label's column there (``tsv_label``), names of columns
            where there is no header (``tsv_fields``), class names in label order (``labels``),
            names of the split to evaluate on (``evaluate``), whose training split is used where
            there is none (``train_from``), the highest score of a regression (``highest_score``),
            and the labels of the published few-shot rows (``official_labels``).
        seed: Not used: GLUE has splits of its own.

    Returns:
        Samples: ``str``, ``(str, str)`` for pairs, and a dict with ``score`` for regression, where
        the label is the score rounded to a whole number.

    Raises:
        FileNotFoundError: If the data is not where it was looked for.
        ValueError: If a file cannot be read or does not hold this task.

    Examples:
        >>> import tempfile
        >>> from fewshot_data.made import make
        >>> spec = load_spec("rte")
        >>> folder = make(spec, tempfile.mkdtemp())
        >>> raw = open_source(spec.at(folder), seed=0)
        >>> raw.class_names, len(raw.samples[0])
        (('entailment', 'not_entailment'), 2)
    """
    options = read_options(spec.options, OPTIONS, owner="source 'glue'")
    folder = find_glue(spec, options["evaluate"])
    test = _read(folder, options["evaluate"], options, spec)
    if test is None:
        raise FileNotFoundError(
            f"no split to evaluate on in '{folder}': looked for files named "
            f"{', '.join(options['evaluate'])} (.parquet, .arrow, .jsonl, .json, .csv, .tsv)"
        )
    train = _read(folder, SPLIT_NAMES["train"], options, spec) or _borrowed(spec, options)
    reads = [read for read in (train, test) if read]
    pool = len(train.labels) if train else 0
    count = pool + len(test.labels)
    complaints = size_complaints(spec, {"train": pool, "test": count - pool})
    return RawDataset(
        samples=TextSamples([read.part for read in reads]),
        labels=[label for read in reads for label in read.labels],
        class_names=tuple(options["labels"]),
        train_indices=list(range(pool)),
        test_indices=list(range(pool, count)),
        names=_names(pool, count, options["evaluate"][0]),
        origin=f"GLUE's {spec.name}: {pool} training rows and {count - pool} rows of "
        f"'{test.files[0].name}' in '{folder}'",
        published=not complaints,
        complaints=complaints,
        official=_official(spec.name, train.labels if train else [], options["official_labels"]),
    )


def official_rows(count: int, shots: int) -> list[int]:
    r"""The rows that SO trains on: the first of a shuffle, whatever their classes.

    $$ S = (\pi_1, \dots, \pi_k), \qquad \pi = \text{the permutation of seed } 42 $$
    as ``datasets.Dataset.shuffle(seed=42)`` draws it. Nothing balances the classes: of RTE's 32
    rows 20 are entailment.

    Args:
        count: Rows of the training split.
        shots: How many rows in all, not per class.

    Returns:
        Row numbers in the order of the shuffle.

    Examples:
        >>> official_rows(10, 10)
        [5, 6, 0, 7, 3, 2, 4, 9, 1, 8]

    Reference:
        The BERT scripts of ``nairouz/SO``.
    """
    import numpy as np

    return np.random.default_rng(SHUFFLE_SEED).permutation(count)[:shots].tolist()


def _official(
    name: str, labels: Sequence[int], wanted: Sequence[int]
) -> Callable[[int, int], list[int]]:
    """The draw of protocol ``official``: all rows, or the published few-shot set."""
    whole = whole_train(range(len(labels)), name)

    def draw(shots: int, seed: int) -> list[int]:
        if shots == -1 or not wanted:
            return whole(shots, seed)
        if shots != len(wanted):
            raise ValueError(
                f"shots is {shots}, but protocol 'official' of '{name}' has shots={len(wanted)} "
                "(rows in all, not per class) or shots=-1 (all rows): for another number per class "
                "use protocol 'nested'"
            )
        rows = official_rows(len(labels), shots)
        if [labels[row] for row in rows] != list(wanted):
            _log.warning(
                "'%s': the %d official rows have other labels than the published ones: this copy "
                "has other rows (%d), or has them in another order",
                *(name, shots, len(labels)),
            )
        return rows

    return draw


def _read(folder: Path, names: Sequence[str], options: dict, spec: DatasetSpec) -> _Read | None:
    """One split, if it is there."""
    files = find_split_files(folder, names)
    if not files:
        return None
    rows = read_rows(files, quoted=False)
    if options["tsv_fields"] and not set(options["tsv_fields"]) & set(rows.columns):
        rows = read_rows(files, quoted=False, fields=options["tsv_fields"])
    where = f"'{files[0]}'"
    texts = _choose(rows, [options["columns"], options["tsv_columns"]], where)
    (label,) = _choose(rows, [["label"], [options["tsv_label"]]], where)
    if files[0].suffix.lower() == ".tsv":
        rows = _whole(rows, [*texts, label], where)
    columns = tuple(check_texts(rows.columns[name], name, where) for name in texts)
    if options["highest_score"]:
        values = scores(rows.columns[label], options["highest_score"], where=where)
        return _Read(Part(columns, values), score_levels(values), files)
    labels = class_numbers(
        rows.columns[label], options["labels"], stored=rows.class_names.get(label), where=where
    )
    if HIDDEN in labels:
        raise ValueError(
            f"labels of {where} are hidden (-1), so nothing can be measured on it: "
            f"get a file of '{spec.name}' with labels, see {', '.join(spec.homes)}"
        )
    return _Read(Part(columns), labels, files)


def _borrowed(spec: DatasetSpec, options: dict) -> _Read | None:
    """The training split of another task beside this one, where this one has none."""
    if not options["train_from"]:
        return None
    other = load_spec(options["train_from"])
    try:
        folder = find_glue(other.at(spec.root) if spec.root else other, SPLIT_NAMES["train"])
    except FileNotFoundError:
        _log.warning("'%s' has no training rows: '%s' is not there", spec.name, other.name)
        return None
    options = read_options(other.options, OPTIONS, owner="source 'glue'")
    return _read(folder, SPLIT_NAMES["train"], options, other)


def _choose(rows: Rows, candidates: Sequence[Sequence[str]], where: str) -> list[str]:
    """The first set of columns that the table has, whatever their case."""
    known = {name.lower(): name for name in rows.columns if name}
    for names in candidates:
        if names and all(name.lower() in known for name in names):
            return [known[name.lower()] for name in names]
    wanted = " or ".join(", ".join(names) for names in candidates if names)
    raise ValueError(f"{where} lacks columns {wanted}: it has {', '.join(rows.columns) or 'none'}")


def _whole(rows: Rows, names: Sequence[str], where: str) -> Rows:
    """Rows of a TSV file that have every field, as the ``datasets`` library keeps them."""
    columns = [rows.columns[name] for name in names]
    kept = [at for at, row in enumerate(zip(*columns, strict=True)) if None not in row and row[-1]]
    if len(kept) < len(rows):
        _log.warning("%d rows of %s lack fields: left out", len(rows) - len(kept), where)
    return Rows({name: [rows.columns[name][at] for at in kept] for name in names})


def _names(pool: int, count: int, test: str) -> list[str]:
    """What identifies a row: its split and its number there, GLUE's ``idx``."""
    return [f"train/{row}" if row < pool else f"{test}/{row - pool}" for row in range(count)]
