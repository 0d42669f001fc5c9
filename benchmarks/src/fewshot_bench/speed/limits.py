"""The bars that the issue sets, in one table, and how a result stands beside them."""

from dataclasses import dataclass
from typing import Literal

from fewshot_bench.speed.record import MemoryRow, OptimizerRow, SpeedResult, TimeRow

__all__ = ["LIMITS", "Limit", "Verdict", "judge"]

Quantity = Literal[
    "step time", "peak memory", "saved bytes", "units a block",
    "optimizer time", "operations", "waits", "bytes an entry",
]  # fmt: skip
DENSITIES = (5e-5, 1e-3)
VITS = ("vit-b-16", "vit-l-16", "vit-h-14")


@dataclass(frozen=True)
class Limit:
    """One bar.

    Args:
        quantity: What is limited.
        variant: Of which variant.
        density: At which density.
        most: The value, or its ratio to another variant, may be this at most.
        against: The other variant, at the same density if it has one; `None` limits the value.
        source: Where the bar is set.
        models: Where it is set for; empty for the optimizer alone.
        gpu: Whether it holds on a GPU instead of the CPU.
    """

    quantity: Quantity
    variant: str
    density: float
    most: float
    against: str | None
    source: str
    models: tuple[str, ...] = ()
    gpu: bool = False


@dataclass(frozen=True)
class Verdict:
    """A bar and what was measured.

    Args:
        limit: The bar.
        model: Which model; empty for the optimizer alone.
        measured: The value or ratio.
        caution: Why the measurement is not the one that the bar is set for; empty when it is.
    """

    limit: Limit
    model: str
    measured: float
    caution: str = ""

    @property
    def met(self) -> bool:
        """Whether the bar is met, without any rounding."""
        return self.measured <= self.limit.most


def _limits() -> tuple[Limit, ...]:
    """Write the bars down."""
    found = []
    for density, floor in zip(DENSITIES, (1.03, 1.06), strict=True):
        times = [("so-free", "floor", floor), ("so-free", "lora", 0.90)]
        times += [("so-free", "strong-lora", 0.95), ("so-free", "released-so", 0.72)]
        times += [("so-low", "floor", 1.18), ("so-minimal", "floor", 1.30)]
        for variant, against, most in times:
            source, models = "issue 3, step time", ("vit-b-16",)
            found.append(Limit("step time", variant, density, most, against, source, models))
        for variant, most in (("so-free", 0.68), ("so-low", 0.45), ("so-minimal", 0.30)):
            source = "issue 3, memory (batch 32)"
            found.append(Limit("peak memory", variant, density, most, "lora", source, VITS))
        source = "issue 3, what the floor saves (performance.md A3)"
        found.append(Limit("saved bytes", "so-free", density, 1.001, "floor", source, VITS))
    for density, faster in zip(DENSITIES, (15, 40), strict=True):
        source = "issue 3, optimizer step alone"
        args = ("so-free", density, 1 / faster, "released-so", source)
        found.append(Limit("optimizer time", *args))
        for quantity, most in (("operations", 64), ("waits", 0), ("bytes an entry", 28)):
            found.append(Limit(quantity, "so-free", density, most, None, source))
    for against, density, most in (("floor", 1e-3, 1.08), ("released-so", 1e-3, 0.25)):
        source = "issue 3, on a GPU (bf16, batch 32, one graph)"
        args = ("so-free", density, most, against, source, ("vit-b-16",), True)
        found.append(Limit("step time", *args))
    return tuple(found)


LIMITS = _limits()
"""Every bar of issue 3's section "Speed and memory" that is a number."""


def judge(result: SpeedResult) -> list[Verdict]:
    """Set a result beside the bars.

    Args:
        result: What was measured.

    Returns:
        One verdict for every bar whose numbers are all there.
    """
    gpu = str(result.options.get("device", "cpu")).startswith("cuda")
    verdicts = []
    for limit in LIMITS:
        if limit.quantity == "step time" and limit.gpu != gpu:
            continue
        for model in limit.models or ("",):
            measured = _measured(limit, result, model)
            if measured is not None:
                verdicts.append(Verdict(limit, model, measured, _caution(limit, result, model)))
    return verdicts


def _measured(limit: Limit, result: SpeedResult, model: str) -> float | None:
    """Find the number that a bar limits."""
    row = _row(limit, result, model, limit.variant)
    if row is None:
        return None
    if limit.against is None:
        return _value(row, limit.quantity)
    other = _row(limit, result, model, limit.against)
    return None if other is None else _value(row, limit.quantity) / _value(other, limit.quantity)


Row = TimeRow | MemoryRow | OptimizerRow


def _row(limit: Limit, result: SpeedResult, model: str, variant: str) -> Row | None:
    """Find the row of a variant, at the density of the bar if it has one."""
    for row in _table(limit, result):
        here = isinstance(row, OptimizerRow) or row.model == model
        if here and row.variant == variant and row.density in (limit.density, None):
            return row
    return None


def _table(limit: Limit, result: SpeedResult) -> list[Row]:
    """Pick the part of the result that a bar is about."""
    if limit.quantity == "step time":
        return [*result.time]
    if limit.quantity in ("peak memory", "saved bytes"):
        return [*result.memory]
    return [*result.optimizer]


def _value(row: Row, quantity: Quantity) -> float:
    """Read the limited number of a row."""
    if isinstance(row, TimeRow):
        return row.step_s.median or 0.0
    if isinstance(row, MemoryRow):
        return row.peak_bytes if quantity == "peak memory" else row.saved_bytes
    if quantity == "operations":
        return row.operations
    if quantity == "waits":
        return row.waits
    return row.bytes_per_entry if quantity == "bytes an entry" else row.step_s.median or 0.0


def _caution(limit: Limit, result: SpeedResult, model: str) -> str:
    """Say how the measurement differs from what the bar is set for."""
    row = _row(limit, result, model, limit.variant)
    said = []
    if isinstance(row, (TimeRow, MemoryRow)) and row.depth is not None:
        said.append(f"{row.depth} blocks only")
    if isinstance(row, MemoryRow) and row.batch != 32:
        said.append(f"batch {row.batch}")
    if isinstance(row, TimeRow):
        said += [f"{len(row.seconds)} rounds"] * (len(row.seconds) < 5)
        said += ["allocator not set"] * (not result.allocator_set)
    return ", ".join(said)
