"""What no measurement can be: numbers of result files that would break what reads them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewshot_bench.results import RunResult

__all__ = ["check_numbers", "check_text"]

MOST = 2**63 - 1  # counts and bytes; more than any memory, and still a number everywhere
LONGEST = 1e12  # seconds


def check_numbers(result: "RunResult", where: str) -> None:
    """Refuse shares outside [0, 1], negative or absurd counts, and more right than there was.

    Args:
        result: A result whose types are right.
        where: What to call it in error messages.

    Raises:
        ValueError: A number cannot have been measured; the message names it.
    """
    for name, value, most in _bounded(result):
        if value is not None and not 0 <= value <= most:
            shown = f"{value:.6g}" if abs(value) < MOST else "a number beyond any"
            raise ValueError(f"{where}: {name} must be from 0 to {most:.6g}, got {shown}")
    train = result.train_info
    if train.correct is not None and train.count is not None and train.correct > train.count:
        raise ValueError(f"{where}: train_info.correct is more than count: {train.correct}")
    step = train.step_time_s
    known = [] if step is None else [t for t in (step.q25, step.median, step.q75) if t is not None]
    if known != sorted(known):
        raise ValueError(f"{where}: train_info.step_time_s: q25, median, q75 must ascend: {known}")


def check_text(table: Any, where: str) -> None:
    """Refuse text that no file or page can hold: halves of surrogate pairs.

    Args:
        table: What JSON gave.
        where: What to call it in error messages.

    Raises:
        ValueError: Some text has no bytes in UTF-8.
    """
    for text in _texts(table):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{where}: {text[:60]!a} is not valid Unicode text") from error


def _bounded(result: "RunResult") -> Iterator[tuple[str, float | None, float]]:
    """List name, value and bound of what is counted or timed."""
    train, info = result.train_info, result.run_info
    for name in ("accuracy", "error"):
        yield f"train_info.{name}", getattr(train, name), 1
    for name in (
        "correct", "count", "peak_memory_bytes", "gradient_bytes", "optimizer_state_bytes",
        "trainable_parameters", "total_parameters", "changed_parameters", "adapter_bytes",
    ):  # fmt: skip
        yield f"train_info.{name}", getattr(train, name), MOST
    if train.step_time_s is not None:
        for name in ("median", "q25", "q75"):
            yield f"train_info.step_time_s.{name}", getattr(train.step_time_s, name), LONGEST
    yield "run_info.total_time_s", info.total_time_s, LONGEST
    for name in ("shots", "seed", "steps", "batch_size", "threads"):
        # -1 shots are all of a training set that the data fixes itself.
        value = getattr(info.config, name)
        yield f"run_info.config.{name}", value + (name == "shots" and value == -1), MOST


def _texts(table: Any) -> Iterator[str]:
    """Walk through every text of a table, keys too."""
    if isinstance(table, str):
        yield table
    elif isinstance(table, dict):
        for key, value in table.items():
            yield from _texts(key)
            yield from _texts(value)
    elif isinstance(table, list):
        for value in table:
            yield from _texts(value)
