"""The result of a run: one JSON file that can be argued with.

The dataclasses are the schema: `write_result` writes exactly these keys, `read_result` accepts
nothing else. Files appear whole or not at all, so a reader (the report, a resumed sweep) never
sees half of one. Nothing here imports torch: reading a thousand results is cheap.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fewshot_bench.atomic import write_text
from fewshot_bench.config import RunConfig, recorded
from fewshot_bench.plausible import check_numbers, check_text
from fewshot_bench.schema import plain, read
from fewshot_bench.seeds import Seeds

__all__ = [
    "MetaInfo",
    "RunInfo",
    "RunResult",
    "StepTime",
    "TrainInfo",
    "read_result",
    "write_result",
]

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class StepTime:
    """Seconds per training step, after the warm-up."""

    median: float | None
    q25: float | None
    q75: float | None
    warmup_steps: int
    measured_steps: int


@dataclass(frozen=True)
class RunInfo:
    """What was run, and how it ended."""

    name: str
    created_at: str
    """When the run started: ISO 8601, UTC."""
    total_time_s: float
    status: Literal["completed", "failed"]
    error: str | None
    """Why a failed run failed, in one line."""
    config: RunConfig
    seeds: Seeds


@dataclass(frozen=True)
class TrainInfo:
    """What was measured; in a failed run, what was known by then."""

    accuracy: float | None = None
    """Correct / count on the test set, in [0, 1]."""
    correct: int | None = None
    count: int | None = None
    error: float | None = None
    """1 - accuracy."""
    metric: str | None = None
    """How the dataset counts: `top1`, `mean_per_class`, `matthews`, `f1` or `pearson`."""
    score: float | None = None
    """The value of that metric; the accuracy where it is `top1`."""
    selected_step: int | None = None
    """With `loop.selection` `best-on-test`: the step whose weights were kept, from 0."""
    loss: list[float] = field(default_factory=list)
    """Training loss of every finished step."""
    step_time_s: StepTime | None = None
    peak_memory_bytes: int | None = None
    """Most bytes of live tensors during one training step."""
    gradient_bytes: int | None = None
    optimizer_state_bytes: int | None = None
    trainable_parameters: int | None = None
    total_parameters: int | None = None
    changed_parameters: int | None = None
    """Entries whose value after training differs from before."""
    adapter_bytes: int | None = None
    """Size on disk of what `--save` writes."""


@dataclass(frozen=True)
class MetaInfo:
    """What it was measured with."""

    packages: dict[str, str]
    git_revision: str | None
    git_dirty: bool | None
    device: str
    python: str
    platform: str
    threads: int


@dataclass(frozen=True)
class RunResult:
    """A run's record: `run_info`, `train_info`, `meta_info`."""

    run_info: RunInfo
    train_info: TrainInfo
    meta_info: MetaInfo
    schema_version: int = SCHEMA_VERSION

    def to_dict(self) -> dict[str, Any]:
        """Give the result as the JSON table that is written.

        Returns:
            `schema_version` first, then the three parts.
        """
        table = plain(self)
        table["run_info"]["config"] = recorded(self.run_info.config)
        return {"schema_version": table.pop("schema_version"), **table}

    @classmethod
    def from_dict(cls, table: dict[str, Any], where: str = "result") -> "RunResult":
        """Read a result from a table.

        Args:
            table: As from `to_dict`.
            where: What to call it in error messages.

        Returns:
            The result.

        Raises:
            ValueError: Another schema version, or a field that is unknown, missing, mistyped or
                beyond what can be measured.
        """
        version = table.get("schema_version") if isinstance(table, dict) else None
        if version != SCHEMA_VERSION:
            raise ValueError(
                f"{where}: schema_version is {version!r}, this version reads {SCHEMA_VERSION}; "
                "it is no result file, or one from another version of fewshot-bench"
            )
        check_text(table, where)
        result = read(cls, table, where)
        check_numbers(result, where)
        return result


def write_result(result: RunResult, path: str | Path) -> Path:
    """Write a result as JSON, whole or not at all.

    Args:
        result: The record of a run.
        path: The file; its folder is created when missing.

    Returns:
        The path.

    Raises:
        OSError: The disk is full or the folder cannot be written; no file was changed.
    """
    table = result.to_dict()
    text = json.dumps({**table, "digest": digest(table)}, indent=1, allow_nan=False)
    return write_text(path, text + "\n")


def digest(table: dict[str, Any]) -> str:
    """Sum up a result's content, so that a changed digit does not pass for a measurement.

    Args:
        table: The content without a digest.

    Returns:
        SHA-256 of its JSON with sorted keys, 64 hexadecimal digits.

    Examples:
        >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()


def read_result(path: str | Path) -> RunResult:
    """Read a result file and check it against the schema.

    Args:
        path: A file that `write_result` wrote.

    Returns:
        The result.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not JSON, or not a result; the message names the file and the field.
    """
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a result file: not valid JSON ({error})") from error
    said = table.pop("digest", None) if isinstance(table, dict) else None
    if said is not None and said != digest(table):
        raise ValueError(
            f"{path} was changed after it was written (its digest does not fit): "
            "remove it and run the same command again"
        )
    return RunResult.from_dict(table, str(path))
