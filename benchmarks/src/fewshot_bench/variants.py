"""What sets two configurations of one method apart, beside the axes that tables have anyway."""

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from fewshot_bench.config import RunConfig, recorded, resolve
from fewshot_bench.results import RunResult

__all__ = ["BEST_ON_TEST", "flat", "flat_config", "variant_labels"]

BEST_ON_TEST = "best on test (!)"
"""The mark of a run whose weights were chosen on the test set."""

# What tells two cells of a table apart, or is the axis that is averaged over.
SELECTION = "loop.selection"
AXES = ("method", "backbone", "dataset", "shots", "seed", "checkpoint")


def flat(run: RunResult) -> list[tuple[str, Any]]:
    """List a run's configuration with dotted names.

    Args:
        run: A result.

    Returns:
        Pairs such as `("so.T", 5)`, in the order of the configuration; learning rates that were
        left to the method are filled in.
    """
    return flat_config(run.run_info.config)


def flat_config(config: RunConfig) -> list[tuple[str, Any]]:
    """List a configuration with dotted names.

    Args:
        config: A run.

    Returns:
        As from `flat`.
    """
    pairs = []
    for key, value in recorded(resolve(config)).items():
        nested = value.items() if isinstance(value, dict) else ()
        pairs.extend((f"{key}.{inner}", item) for inner, item in nested)
        if not isinstance(value, dict):
            pairs.append((key, value))
    return pairs


def variant_labels(runs: Sequence[RunResult]) -> dict[str, str]:
    """Say of each run of a method which options it has that others have not.

    Args:
        runs: Runs of one method on one backbone and dataset.

    Returns:
        By the run's name, text such as `lr 0.001, so.T 5`. What has its default is not named, so
        the text is empty where nothing differs and for the one variant without a difference.
    """
    options = {run.run_info.name: _options(run.run_info.config) for run in runs}
    usual = {run.run_info.name: _options(RunConfig(run.run_info.config.method)) for run in runs}
    apart = _differing(runs, options)
    apart = [key for key in apart if key != SELECTION]
    return {
        name: ", ".join(
            [f"{k} {chosen[k]}" for k in apart if chosen[k] != usual[name][k]]
            + [BEST_ON_TEST] * (chosen[SELECTION] != usual[name][SELECTION])
        )
        for name, chosen in options.items()
    }


def _options(config: RunConfig) -> dict[str, str]:
    """Flatten what is configured beside the axes: {"lr": "0.001", "so.T": "5", ...}."""
    return {key: _spell(value) for key, value in flat_config(config) if key not in AXES}


def _spell(value: Any) -> str:
    """Write an option's value: `null` is what leaves the choice to the method."""
    return "default" if value is None else json.dumps(value).strip('"')


def _differing(runs: Sequence[RunResult], options: dict[str, dict[str, str]]) -> list[str]:
    """Name the options that differ between runs of the same shots.

    A value that depends on the shots alone (fewer steps for one shot) is no variant.
    """
    seen: dict[tuple[int, str], set[str]] = defaultdict(set)
    for run in runs:
        for key, value in options[run.run_info.name].items():
            seen[run.run_info.config.shots, key].add(value)
    return sorted({key for (_, key), values in seen.items() if len(values) > 1})
