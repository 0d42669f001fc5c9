"""The bars that the issue sets, in one table, and how a result stands beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from fewshot_bench.speed.record import (
    MemoryRow,
    OptimizerRow,
    SpeedResult,
    ThresholdRow,
    TimeRow,
    TransientRow,
)
from fewshot_bench.speed.single_layers import LAYERS
from fewshot_bench.speed.threshold import OURS, SHAPES

__all__ = ["LIMITS", "Limit", "Verdict", "judge"]

Quantity = Literal[
    "step time", "peak memory", "saved bytes", "units a block",
    "optimizer time", "operations", "waits", "bytes an entry", "transient", "threshold time",
]  # fmt: skip
DENSITIES = (5e-5, 1e-3)
VITS = ("vit-b-16", "vit-l-16", "vit-h-14")


@dataclass(frozen=True)
class Limit:
    """One bar.

    Args:
        quantity: What is limited.
        variant: Of which variant.
        density: At which density; `None` where there is none.
        most: The value, or its ratio to another variant, may be this at most.
        against: The other variant, at the same density if it has one; `None` limits the value.
        source: Where the bar is set.
        places: The models or layers it is set for; empty for the optimizer alone.
        gpu: Whether it holds on a GPU instead of the CPU.
        batch: At which batch size; `None` where a measurement at another gets a caution.
    """

    quantity: Quantity
    variant: str
    density: float | None
    most: float
    against: str | None
    source: str
    places: tuple[str, ...] = ()
    gpu: bool = False
    batch: int | None = None


@dataclass(frozen=True)
class Verdict:
    """A bar and what was measured.

    Args:
        limit: The bar.
        place: Which model or layer; empty for the optimizer alone.
        measured: The value or ratio.
        caution: Why the measurement is not the one that the bar is set for; empty when it is.
    """

    limit: Limit
    place: str
    measured: float
    caution: str = ""

    @property
    def met(self) -> bool:
        """Whether the bar is met, without any rounding."""
        return self.measured <= self.limit.most


def _so_limits() -> list[Limit]:
    """Write the bars of SO down."""
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
    return found


def _snell_limits() -> list[Limit]:
    """Write the bars of SNELL down."""
    found = []
    times = [("snell-torch", "full", 1.20, n) for n in (8, 32)]
    times += [("snell", "full", 1.05, n) for n in (8, 32)]
    times += [("snell", "released-snell", 0.55, 8), ("snell", "released-snell", 0.62, 32)]
    for variant, against, most, batch in times:
        args = (variant, None, most, against, "issue 4, step time", ("vit-b-16",), False, batch)
        found.append(Limit("step time", *args))
    for batch in (8, 32):
        levels = ("snell", "snell-low")
        for (against, most), level in product((("released-snell", 0.69), ("lora", 0.70)), levels):
            args = (level, None, most, against, "issue 4, memory", VITS, False, batch)
            found.append(Limit("peak memory", *args))
        source = "issue 4, what the floor saves"
        args = ("snell", None, 1.001, "floor", source, VITS, False, batch)
        found.append(Limit("saved bytes", *args))
    layers = tuple(f"{m}x{n}" for m, n in LAYERS)
    found += [
        Limit("transient", variant, None, 1.5, None, "issue 4, m·n floats", layers)
        for variant in ("snell-torch", "snell")
    ]
    matrices = tuple(f"{m}x{n}" for m, n in SHAPES)
    args = (OURS, None, 1 / 10, "torch.quantile", "issue 4, threshold", matrices)
    found.append(Limit("threshold time", *args))
    args = ("snell", None, 1.10, "full", "issue 4, on a GPU", ("vit-b-16",), True, 32)
    return [*found, Limit("step time", *args)]


LIMITS = (*_so_limits(), *_snell_limits())
"""Every bar of the sections "Speed and memory" of issues 3 and 4 that is a number."""


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
        for place in limit.places or ("",):
            measured = _measured(limit, result, place)
            if measured is not None:
                verdicts.append(Verdict(limit, place, measured, _caution(limit, result, place)))
    return verdicts


def _measured(limit: Limit, result: SpeedResult, place: str) -> float | None:
    """Find the number that a bar limits."""
    row = _row(limit, result, place, limit.variant)
    if row is None:
        return None
    if limit.against is None:
        return _value(row, limit.quantity)
    other = _row(limit, result, place, limit.against)
    return None if other is None else _value(row, limit.quantity) / _value(other, limit.quantity)


Row = TimeRow | MemoryRow | OptimizerRow | TransientRow | ThresholdRow


def _row(limit: Limit, result: SpeedResult, place: str, variant: str) -> Row | None:
    """Find the row of a variant, at the density and the batch size of the bar if it has them."""
    for row in _table(limit, result):
        same = row.variant == variant and getattr(row, "density", None) in (limit.density, None)
        here = limit.batch is None or getattr(row, "batch", None) == limit.batch
        if same and here and place == _place(row):
            return row
    return None


def _table(limit: Limit, result: SpeedResult) -> Sequence[Row]:
    """Pick the part of the result that a bar is about."""
    match limit.quantity:
        case "step time":
            return result.time
        case "peak memory" | "saved bytes":
            return result.memory
        case "transient":
            return result.transient
        case "threshold time":
            return result.threshold
        case _:
            return result.optimizer


def _place(row: Row) -> str:
    """Name the model or the layer of a row."""
    if isinstance(row, TimeRow | MemoryRow):
        return row.model
    return "" if isinstance(row, OptimizerRow) else f"{row.outputs}x{row.inputs}"


def _value(row: Row, quantity: Quantity) -> float:
    """Read the limited number of a row."""
    match row:
        case TimeRow():
            return row.step_s.median or 0.0
        case MemoryRow():
            return row.peak_bytes if quantity == "peak memory" else row.saved_bytes
        case TransientRow():
            matrix = 4 * row.outputs * row.inputs
            return max(row.forward_bytes, row.backward_bytes) / matrix
        case ThresholdRow():
            return row.call_s.median or 0.0
    costs = {
        "operations": row.operations, "waits": row.waits, "bytes an entry": row.bytes_per_entry,
    }  # fmt: skip
    return costs.get(quantity, row.step_s.median or 0.0)


def _caution(limit: Limit, result: SpeedResult, place: str) -> str:
    """Say how the measurement differs from what the bar is set for."""
    row = _row(limit, result, place, limit.variant)
    said = []
    if isinstance(row, (TimeRow, MemoryRow)) and row.depth is not None:
        said.append(f"{row.depth} block" + "s" * (row.depth != 1) + " only")
    if isinstance(row, MemoryRow) and limit.batch is None and row.batch != 32:
        said.append(f"batch {row.batch}")
    if isinstance(row, TimeRow):
        said += [f"{len(row.seconds)} rounds"] * (len(row.seconds) < 5)
        said += ["allocator not set"] * (not result.allocator_set)
    if limit.variant in ("snell", OURS) and not isinstance(row, MemoryRow):
        said += ["no compiled kernels"] * (not result.options.get("snell_kernels"))
    return ", ".join(said)
