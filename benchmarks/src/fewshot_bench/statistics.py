"""From runs to what can be compared: means with intervals, and how many runs stand behind each."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewshot_bench.results import RunResult
from fewshot_bench.variants import variant_labels

__all__ = ["Block", "Cell", "Estimate", "Row", "estimate", "summarise"]


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and its 95 % confidence interval."""

    mean: float
    half_width: float | None
    """Half the width of the interval; `None` with a single run, which has no spread."""
    count: int


def estimate(values: Sequence[float]) -> Estimate:
    r"""Estimate a mean with Student's 95 % interval.

    $$\bar x \pm t_{0.975,\,n-1} \frac{s}{\sqrt n}$$

    Args:
        values: One number per run, at least one.

    Returns:
        The mean, half the width of the interval, and the number of runs.

    Raises:
        ValueError: There is no value.

    Examples:
        >>> estimate([0.25, 0.5, 0.75])
        Estimate(mean=0.5, half_width=0.6210..., count=3)
    """
    if not values:
        raise ValueError("values is empty: a mean needs at least one run")
    count, mean = len(values), statistics.fmean(values)
    if count == 1:
        return Estimate(mean, None, 1)
    from scipy.special import stdtrit

    quantile = float(stdtrit(count - 1, 0.975))
    return Estimate(mean, quantile * statistics.stdev(values) / count**0.5, count)


@dataclass(frozen=True)
class Cell:
    """One method at one number of shots."""

    completed: tuple[RunResult, ...]
    failed: tuple[RunResult, ...]

    @property
    def accuracy(self) -> Estimate | None:
        """Accuracy on the test set, in [0, 1]; `None` when every run failed."""
        values = [run.train_info.accuracy for run in self.completed]
        known = [value for value in values if value is not None]
        return estimate(known) if known else None


@dataclass(frozen=True)
class Row:
    """One method, as configured, on one backbone and dataset."""

    method: str
    label: str
    """The method, and what sets this row apart: other weights, another option."""
    control: bool
    """Whether the backbone has random weights."""
    untrained: bool
    """Whether nothing is trained, so that the accuracy is the same at every number of shots."""
    cells: dict[int, Cell]
    """By shots; an untrained row has its one cell at every number of shots of its block."""

    @property
    def top(self) -> Cell:
        """The cell with the most shots."""
        return self.cells[max(self.cells)]

    @property
    def peak_memory(self) -> float | None:
        """Peak bytes of a training step at the most shots, largest of the runs."""
        return _over(self.top, lambda run: run.train_info.peak_memory_bytes, max)

    @property
    def trainable(self) -> float | None:
        """Trainable parameters at the most shots."""
        return _over(self.top, lambda run: run.train_info.trainable_parameters, max)

    @property
    def changed(self) -> float | None:
        """Entries that training changed at the most shots, median of the runs."""
        return _over(self.top, lambda run: run.train_info.changed_parameters, statistics.median)

    @property
    def adapter_bytes(self) -> float | None:
        """Size on disk of what a run saves, at the most shots."""
        return _over(self.top, lambda run: run.train_info.adapter_bytes, max)

    @property
    def step_time(self) -> tuple[float, float, float] | None:
        """Seconds per step at the most shots: 25 %, 50 %, 75 %, each the median over the runs."""
        times = [run.train_info.step_time_s for run in self.top.completed]
        known = [(t.q25, t.median, t.q75) for t in times if t is not None]
        whole = [(a, b, c) for a, b, c in known if None not in (a, b, c)]
        if not whole:
            return None
        low, middle, high = (statistics.median(column) for column in zip(*whole, strict=True))
        return low, middle, high


@dataclass(frozen=True)
class Block:
    """What belongs in one table and one panel: a backbone on a dataset."""

    backbone: str
    dataset: str
    title: str
    """`backbone · dataset`; a dataset that is a path goes by its last part where that is enough."""
    shots: tuple[int, ...]
    rows: tuple[Row, ...]
    """Best measured accuracy first."""


def summarise(results: Iterable[RunResult]) -> tuple[Block, ...]:
    """Group runs into one block per backbone and dataset, one row per method, one cell per shots.

    Runs that differ in anything but the seed never share a cell: where one method ran with two
    learning rates, it has two rows, and their labels say which.

    Args:
        results: Completed and failed runs.

    Returns:
        The blocks, by name.
    """
    groups: dict[tuple[str, str], list[RunResult]] = defaultdict(list)
    for result in results:
        config = result.run_info.config
        groups[config.backbone, config.dataset].append(result)
    names = _dataset_names({dataset for _, dataset in groups})
    return tuple(
        _block(backbone, dataset, f"{backbone} · {names[dataset]}", groups[backbone, dataset])
        for backbone, dataset in sorted(groups)
    )


def _dataset_names(datasets: set[str]) -> dict[str, str]:
    """Shorten paths to their last part, unless two would then be called the same."""
    short = {dataset: Path(dataset).name or dataset for dataset in datasets}
    taken = Counter(short.values())
    return {dataset: name if taken[name] == 1 else dataset for dataset, name in short.items()}


def _block(backbone: str, dataset: str, title: str, results: list[RunResult]) -> Block:
    """Build the rows of one block, best first."""
    shots = tuple(sorted({result.run_info.config.shots for result in results}))
    by_method: dict[tuple[str, str | None], list[RunResult]] = defaultdict(list)
    for result in results:
        config = result.run_info.config
        by_method[config.method, config.checkpoint].append(result)
    rows = [row for key, runs in by_method.items() for row in _rows(*key, runs, shots)]
    rows.sort(key=lambda row: _rank(row, shots[-1]))
    return Block(backbone, dataset, title, shots, tuple(rows))


def _rank(row: Row, shots: int) -> tuple[bool, float, str]:
    """Order rows by accuracy at the most shots, best first; those that were not run there last."""
    cell = row.cells.get(shots)
    accuracy = cell.accuracy if cell else None
    return accuracy is None, -accuracy.mean if accuracy else 0.0, row.label


def _rows(
    method: str, checkpoint: str | None, runs: list[RunResult], shots: tuple[int, ...]
) -> list[Row]:
    """Split one method's runs into rows that differ in the seed only."""
    labels = variant_labels(runs)
    variants: dict[str, list[RunResult]] = defaultdict(list)
    for run in runs:
        variants[labels[run.run_info.name]].append(run)
    weights = "" if checkpoint is None else f" ({Path(checkpoint).name})"
    return [
        Row(
            method=method,
            label=f"{method}{weights}" + (f", {variant}" if variant else ""),
            control=checkpoint == "random",
            untrained=_untrained(members),
            cells=_cells(members, shots),
        )
        for variant, members in variants.items()
    ]


def _untrained(runs: list[RunResult]) -> bool:
    """Whether none of the runs trained anything, as far as they say."""
    return {run.train_info.trainable_parameters for run in runs} - {None} == {0}


def _cells(runs: list[RunResult], shots: tuple[int, ...]) -> dict[int, Cell]:
    """Sort the runs of one row by their shots."""
    if _untrained(runs):
        # The same seed gives the same number at any number of shots: counting it once per
        # number of shots would make the interval look narrower than it is.
        once = {run.run_info.config.seed: run for run in sorted(runs, key=_completed)}
        return dict.fromkeys(shots, _cell(list(once.values())))
    by_shots: dict[int, list[RunResult]] = defaultdict(list)
    for run in runs:
        by_shots[run.run_info.config.shots].append(run)
    return {count: _cell(by_shots[count]) for count in sorted(by_shots)}


def _completed(run: RunResult) -> bool:
    """Whether a run came to its end."""
    return run.run_info.status == "completed"


def _cell(runs: list[RunResult]) -> Cell:
    """Part what completed from what failed."""
    failed = tuple(run for run in runs if not _completed(run))
    return Cell(tuple(run for run in runs if _completed(run)), failed)


def _over(
    cell: Cell,
    value: Callable[[RunResult], float | None],
    combine: Callable[[list[float]], float],
) -> float | None:
    """Combine what is known of the completed runs of a cell."""
    known = [number for run in cell.completed if (number := value(run)) is not None]
    return combine(known) if known else None
