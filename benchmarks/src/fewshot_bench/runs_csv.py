"""All runs as one CSV file: a line per run, nothing rounded."""

import csv
import dataclasses
import io
from collections.abc import Sequence
from typing import Any

from fewshot_bench.results import RunResult, TrainInfo
from fewshot_bench.variants import flat

__all__ = ["runs_csv"]

MEASURED = tuple(
    field.name
    for field in dataclasses.fields(TrainInfo)
    if field.name not in ("loss", "step_time_s")
)


def runs_csv(results: Sequence[RunResult]) -> str:
    """Write a table with a line per run, completed or failed.

    Args:
        results: The runs.

    Returns:
        CSV text; what is unknown is empty, numbers are as exact as in the result files.
    """
    lines = [_line(result) for result in results]
    columns = list(dict.fromkeys(name for line in lines for name in line))
    out = io.StringIO()
    table = csv.DictWriter(out, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(lines)
    return out.getvalue()


def _line(result: RunResult) -> dict[str, Any]:
    """Flatten one result."""
    info, train, meta = result.run_info, result.train_info, result.meta_info
    step = train.step_time_s
    return {
        "name": info.name,
        "status": info.status,
        "error": info.error,
        **{f"config.{key}": value for key, value in flat(result)},
        # The 1 - accuracy of the file; plain `error` is already why a run failed.
        **{("error_rate" if key == "error" else key): getattr(train, key) for key in MEASURED},
        "first_loss": train.loss[0] if train.loss else None,
        "last_loss": train.loss[-1] if train.loss else None,
        "step_time_q25_s": step.q25 if step else None,
        "step_time_median_s": step.median if step else None,
        "step_time_q75_s": step.q75 if step else None,
        "total_time_s": info.total_time_s,
        "created_at": info.created_at,
        "device": meta.device,
        "threads": meta.threads,
        "git_revision": meta.git_revision,
        "git_dirty": meta.git_dirty,
        "platform": meta.platform,
        "python": meta.python,
        **{f"version.{name}": version for name, version in sorted(meta.packages.items())},
    }
