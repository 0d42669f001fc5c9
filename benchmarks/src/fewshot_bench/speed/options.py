"""What `python -m fewshot_bench.speed` can be asked for; nothing heavy is imported here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Options", "check_options"]

Part = Literal["time", "memory", "optimizer"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure SO's training step beside a frozen network, full fine-tuning, LoRA and the release.

    Weights are random. Time is the process's own, in turns; memory is simulated, to the byte.
    """

    model: tuple[str, ...] = ("vit-b-16",)
    """vit-b-16, vit-l-16, vit-h-14, clip-vit-b-16, bert-base, or others of the catalog."""
    parts: tuple[Part, ...] = ("time", "memory", "optimizer")
    """What to measure; the optimizer alone is measured on ViT-B's 48 matrices."""
    variants: tuple[str, ...] = (
        "floor", "full", "lora", "strong-lora", "released-so", "so-dense",
        "so-free", "so-low", "so-minimal",
    )  # fmt: skip
    """Which, in the order of their turns; lora-compiled and lora-compiled-half may be added."""
    densities: tuple[float, ...] = (5e-5, 1e-3)
    """Trained fractions of each matrix."""
    depth: int | None = None
    """Blocks of each tower, to keep it short; none = all."""
    batch: int = 8
    """Examples per step where time is measured."""
    memory_batch: int = 32
    """Examples per step where memory is simulated."""
    rounds: int = 5
    """Rounds that count; two of warm-up come first."""
    device: str = "cpu"
    """Where to compute: cpu, cuda, cuda:1, ..."""
    precision: Literal["fp32", "bf16", "autocast"] = "fp32"
    """Of the timed steps: bf16 keeps weights in bf16 too, autocast keeps them in fp32."""
    graph: bool = False
    """Time the whole step as one CUDA graph."""
    release: Path | None = None
    """A clone of nairouz/SO, for the variant released-so."""
    out: Path = Path("results/speed.json")
    """The result file."""
    table: Path | None = None
    """Write the tables as Markdown to this file too."""
    render: Path | None = None
    """Measure nothing: show the tables of this result file."""


def check_options(options: Options) -> None:
    """Refuse what makes no sense before anything is measured.

    Args:
        options: As typed.

    Raises:
        ValueError: An option is out of range; the message names it.
    """
    for name in ("batch", "memory_batch", "rounds"):
        value = getattr(options, name)
        if value < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    for density in options.densities:
        if not 0.0 < density <= 1.0:
            raise ValueError(f"--densities must be in (0, 1], got {density}: pass e.g. 1e-3")
    for name in ("model", "variants", "densities", "parts"):
        values = getattr(options, name)
        if not values or len(set(values)) < len(values):
            raise ValueError(f"--{name} must name one or more, each once, got {values}")
    if options.graph and not options.device.startswith("cuda"):
        raise ValueError(f"--graph needs a CUDA device, got --device {options.device}")
