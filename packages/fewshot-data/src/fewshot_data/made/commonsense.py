"""Tiny copies of the commonsense sets, worded as LLM-Adapters words them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fewshot_data.commonsense_files import DERIVED, TASKS
from fewshot_data.registry import DatasetSpec, load_spec

__all__ = ["LAYOUTS", "make"]

LAYOUTS = ("json", "jsonl", "parquet")
TRAIN, TEST = 5, 2  # rows per answer


def make(spec: DatasetSpec, root: Path, *, layout: str, rng: Any) -> Path:
    """Write a copy with a few rows for each answer.

    Args:
        spec: One of the eight sets, or the training set of all.
        root: Folder of all data.
        layout: One of `LAYOUTS`.
        rng: Not used: questions are numbered.

    Returns:
        The set's folder.
    """
    if spec.options.get("held_out"):
        rows = [row for task in TASKS for row in _rows(load_spec(task), "train", TRAIN)]
        folder = root / spec.folders[0]
        _write(rows, folder / "commonsense_170k", layout)
        return folder
    folder = root / "dataset" / spec.folders[0]
    _write(_rows(spec, "train", TRAIN), folder / "train", layout)
    _write(_rows(spec, "test", TEST), folder / "test", layout)
    return folder


def _rows(spec: DatasetSpec, split: str, count: int) -> list[dict[str, str]]:
    """Some rows for each answer of a task."""
    answers = spec.options["answers"]
    return [
        {
            "instruction": _instruction(
                spec.name, f"{split} {number}, is “{answer}” right", answers
            ),
            "input": "",
            "output": f"{DERIVED}{answer}",
            "answer": answer,
        }
        for number in range(count)
        for answer in answers
    ]


def _instruction(task: str, question: str, answers: Sequence[str]) -> str:
    """The wording of a task."""
    listed = "/".join(answers)
    options = [f"{answer.capitalize()}: choice {at}" for at, answer in enumerate(answers)]
    if task == "boolq":
        return (
            f"Please answer the following question with true or false, question: {question}?\n\n"
            f"Answer format: {listed}"
        )
    if task == "piqa":
        chosen = "\n\n".join(options)
        return (
            f"Please choose the correct solution to the question: {question}\n\n{chosen}\n\n"
            f"Answer format: {listed}"
        )
    opening = {
        "hellaswag": "ending to complete the given sentence",
        "winogrande": "answer to fill in the blank to complete the given sentence",
    }.get(task, "answer to the question")
    gap = " " if task == "winogrande" else "\n\n"
    return (
        f"Please choose the correct {opening}: {question}\n\n{' '.join(options)}{gap}"
        f"Answer format: {listed}"
    )


def _write(rows: list[dict[str, str]], path: Path, layout: str) -> None:
    """One file of rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if layout == "json":
        path.with_suffix(".json").write_text(json.dumps(rows, indent=4), encoding="utf-8")
    elif layout == "jsonl":
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        path.with_suffix(".jsonl").write_text("\n".join(lines), encoding="utf-8")
    else:
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path.with_suffix(".parquet"))
