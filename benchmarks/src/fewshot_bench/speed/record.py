"""The result file of the speed benchmark: one JSON per invocation, whole or not at all."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fewshot_bench.atomic import write_text
from fewshot_bench.results import MetaInfo, StepTime
from fewshot_bench.schema import plain, read

__all__ = [
    "AllocatorRow",
    "DecodingRow",
    "MemoryRow",
    "OptimizerRow",
    "PieceRow",
    "SpeedResult",
    "ThresholdRow",
    "TimeRow",
    "TransientRow",
    "read_speed",
    "write_speed",
]

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class TimeRow:
    """Seconds per training step of one variant."""

    model: str
    depth: int | None
    """Blocks of each tower; none = all."""
    batch: int
    variant: str
    density: float | None
    step_s: StepTime
    seconds: list[float]
    """Every round that counts, in order."""


@dataclass(frozen=True)
class MemoryRow:
    """What one training step of one variant holds, by simulation."""

    model: str
    depth: int | None
    batch: int
    variant: str
    density: float | None
    peak_bytes: int
    standing_bytes: int
    saved_bytes: int
    """Kept by the forward for the backward."""
    units: float
    """The part of it inside the blocks, in activations of the model's width per block."""
    flops: int
    """Of all matrix products of the step."""
    operations: int
    """Non-view operations of the step; without the optimizer's where it was not simulated."""
    seconds: float
    note: str = ""


@dataclass(frozen=True)
class OptimizerRow:
    """What one step of one optimizer over all matrices costs."""

    variant: str
    density: float | None
    matrices: int
    entries: int
    step_s: StepTime
    redraw_s: StepTime
    operations: int
    waits: int
    bytes_per_entry: float


@dataclass(frozen=True)
class TransientRow:
    """What one layer holds for a moment only."""

    variant: str
    outputs: int
    inputs: int
    tokens: int
    forward_bytes: int
    """In the forward, without input and output."""
    backward_bytes: int
    """In the backward, without gradients of input, output and parameters."""


@dataclass(frozen=True)
class ThresholdRow:
    """What one algorithm needs for the threshold of one matrix."""

    variant: str
    """The algorithm."""
    outputs: int
    inputs: int
    sparsity: float
    call_s: StepTime
    survivors: int
    differing: int
    """Entries whose fate is another than with our threshold."""


@dataclass(frozen=True)
class PieceRow:
    """What one piece of one layer's step costs."""

    piece: str
    variant: str
    outputs: int
    inputs: int
    r: int
    call_s: StepTime
    bytes: int
    """Of the matrices of the layer's size that the piece reads or writes."""


@dataclass(frozen=True)
class AllocatorRow:
    """What a GPU's allocator held at the peak of one training step of one variant."""

    model: str
    depth: int | None
    batch: int
    variant: str
    density: float | None
    measured_bytes: int
    predicted_bytes: int
    """By simulation."""


@dataclass(frozen=True)
class DecodingRow:
    """What reading, transforming and collating one image costs."""

    harness: str
    split: str
    """`train` or `test`."""
    variant: str
    workers: int
    passes: int
    """Over the images, from the first reading on; the cost is that of an image in one of them."""
    images: int
    batch: int
    wall_s: StepTime
    processor_s: StepTime
    """Of this process and its workers together."""
    wall: list[float]
    """Every round that counts, in order."""
    processor: list[float]


@dataclass(frozen=True)
class SpeedResult:
    """Everything that one invocation measured."""

    created_at: str
    total_time_s: float
    options: dict[str, Any]
    allocator_set: bool
    """Whether the process started with one thread and an allocator that keeps memory."""
    meta_info: MetaInfo
    time: list[TimeRow] = field(default_factory=list)
    memory: list[MemoryRow] = field(default_factory=list)
    optimizer: list[OptimizerRow] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    """What could not be measured, and why."""
    depth: list[MemoryRow] = field(default_factory=list)
    """Memory again, at several numbers of blocks."""
    transient: list[TransientRow] = field(default_factory=list)
    threshold: list[ThresholdRow] = field(default_factory=list)
    pieces: list[PieceRow] = field(default_factory=list)
    allocator: list[AllocatorRow] = field(default_factory=list)
    decoding: list[DecodingRow] = field(default_factory=list)
    finished: bool = True
    """Whether everything that was asked for is in it."""
    schema_version: int = SCHEMA_VERSION


def write_speed(result: SpeedResult, path: str | Path) -> Path:
    """Write a result, whole or not at all.

    Args:
        result: What was measured.
        path: The file; its folder is created when missing.

    Returns:
        The path.

    Raises:
        OSError: The disk is full or the folder cannot be written; no file was changed.
    """
    return write_text(path, json.dumps(plain(result), indent=1, allow_nan=False) + "\n")


def read_speed(path: str | Path) -> SpeedResult:
    """Read a result and check it against the schema.

    Args:
        path: What `write_speed` wrote.

    Returns:
        The result.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not such a result; the message names the file and the field.
    """
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a result file: not valid JSON ({error})") from error
    version = table.get("schema_version") if isinstance(table, dict) else None
    if version != SCHEMA_VERSION:
        raise ValueError(f"{path}: schema_version is {version!r}, this reads {SCHEMA_VERSION}")
    return read(SpeedResult, table, str(path))
