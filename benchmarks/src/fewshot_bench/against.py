"""Our runs beside the published numbers that presets carry."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fewshot_bench.config import RunConfig, run_name
from fewshot_bench.grid import Preset, expand, list_presets, load_preset
from fewshot_bench.published import MEAN, MEAN_OF_GROUPS, Published, group_of
from fewshot_bench.results import RunResult
from fewshot_bench.statistics import Estimate, estimate
from fewshot_bench.variants import flat_config

__all__ = ["Comparison", "compare", "sources"]


@dataclass(frozen=True)
class Comparison:
    """One published number, in per cent, and what we measured."""

    preset: str
    what: str
    published: float
    ours: Estimate | None
    """In per cent, over seeds; `None` while runs are missing."""
    missing: str
    """Which runs are missing; empty when none is."""
    best_on_test: bool
    source: str
    note: str


def compare(results: Iterable[RunResult]) -> list[Comparison]:
    """Find the published numbers that some runs can be compared with.

    A run belongs to a preset when every choice of its configuration is the preset's, but for the
    seed, the device, and what changes no result (threads, accumulation, recomputation, compiling).
    Runs whose weights were chosen on the test set get lines of their own.

    Args:
        results: Completed and failed runs; failed ones count as missing.

    Returns:
        A line per published number of every preset of which there is a run.
    """
    done: dict[tuple[str, bool], list[RunResult]] = defaultdict(list)
    for run in results:
        config = run.run_info.config
        if run.train_info.score is not None or run.train_info.accuracy is not None:
            done[_key(config), config.loop.selection != "last"].append(run)
    found: list[Comparison] = []
    for name in list_presets():
        preset = load_preset(name)
        if preset.published:
            found += _of_preset(name, preset, done)
    return found


def _of_preset(
    name: str, preset: Preset, done: dict[tuple[str, bool], list[RunResult]]
) -> list[Comparison]:
    """Compare what one preset carries."""
    cells = {_key(config): config for config in expand(preset)}
    found = []
    for chosen in (False, True):
        ours = {key: done[key, chosen] for key in cells if (key, chosen) in done}
        for table in preset.published if ours else ():
            found += _of_table(name, table, cells, ours, chosen)
    return found


def _of_table(
    name: str,
    table: Published,
    cells: dict[str, RunConfig],
    ours: dict[str, list[RunResult]],
    chosen: bool,
) -> list[Comparison]:
    """Compare the numbers of one table."""
    asked = {k: c for k, c in cells.items() if _fits(c, table.when)}
    found = []
    for value, number in table.values.items():
        parts = _parts(asked, table.by, value)
        estimated, missing = _ours(parts, ours)
        if not any(key in ours for part in parts for key in part):
            continue
        what = ", ".join([*(f"{k} {v}" for k, v in table.when.items()), f"{table.by} {value}"])
        found.append(
            Comparison(name, what, number, estimated, missing, chosen, table.source, table.note)
        )
    return found


def _parts(asked: dict[str, RunConfig], by: str, value: str) -> list[list[str]]:
    """Give the cells of a number: lists whose means are averaged."""
    if value == MEAN_OF_GROUPS:
        groups = sorted({group_of(config.dataset) for config in asked.values()})
        return [[k for k, c in asked.items() if group_of(c.dataset) == g] for g in groups]
    if value == MEAN:
        return [list(asked)]
    if value.startswith(f"{MEAN}:"):
        wanted = value.partition(":")[2]
        return [[k for k, c in asked.items() if group_of(c.dataset) == wanted]]
    return [[k for k, c in asked.items() if str(dict(flat_config(c))[by]) == value]]


def _ours(parts: list[list[str]], ours: dict[str, list[RunResult]]) -> tuple[Estimate | None, str]:
    """Average over cells for each seed, then estimate over the seeds that have all cells."""
    wanted = [key for part in parts for key in part]
    by_seed: dict[int, dict[str, float]] = defaultdict(dict)
    for key in wanted:
        for run in ours.get(key, ()):
            by_seed[run.run_info.config.seed][key] = 100 * _score(run)
    whole = [scores for scores in by_seed.values() if len(scores) == len(wanted)]
    most = max((len(scores) for scores in by_seed.values()), default=0)
    if not whole:
        return None, f"{most} of {len(wanted)} runs of a seed are there"
    means = [statistics.fmean(statistics.fmean(s[k] for k in p) for p in parts) for s in whole]
    return estimate(means), ""


def _score(run: RunResult) -> float:
    """Give the dataset's own score; files from before there was one have the accuracy."""
    info = run.train_info
    value = info.accuracy if info.score is None else info.score
    assert value is not None
    return value


def _fits(config: RunConfig, when: dict[str, Any]) -> bool:
    """Say whether a run has the values of some fields."""
    have = dict(flat_config(config))
    return all(have[key] == value for key, value in when.items())


def _key(config: RunConfig) -> str:
    """Name a run without what it may differ in from the one it is compared with."""
    loop = replace(
        config.loop, selection="last", look_every=10, accumulate=1, checkpointing=False,
        compile=False,
    )  # fmt: skip
    return run_name(replace(config, seed=0, device="cuda", threads=1, loop=loop))


def sources(lines: Sequence[Comparison]) -> list[str]:
    """List the notes of some comparisons, each once.

    Args:
        lines: From `compare`.

    Returns:
        Sentences.
    """
    notes = [f"{line.source}: {line.note}" if line.note else line.source for line in lines]
    return list(dict.fromkeys(notes))
