"""What the speed benchmarks can be asked for; nothing heavy is imported here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["PRESETS", "Options", "Part", "SnellOptions", "check_options"]

Part = Literal[
    "time", "memory", "optimizer", "depth", "transient", "threshold", "pieces", "allocator"
]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure SO's training step beside a frozen network, full fine-tuning, LoRA and the release.

    Weights are random. Time is the process's own, in turns; memory is simulated, to the byte.
    """

    model: tuple[str, ...] = ("vit-b-16",)
    """vit-b-16, vit-l-16, vit-h-14, clip-vit-b-16, bert-base, or others of the catalog."""
    parts: tuple[Part, ...] = ("time", "memory", "optimizer")
    """What to measure; the optimizer alone is measured on ViT-B's 48 matrices, transient, threshold
    and pieces on single layers."""
    variants: tuple[str, ...] = (
        "floor", "full", "lora", "strong-lora", "released-so", "so-dense",
        "so-free", "so-low", "so-minimal",
    )  # fmt: skip
    """Which, in the order of their turns; lora-compiled and lora-compiled-half may be added."""
    densities: tuple[float, ...] = (5e-5, 1e-3)
    """Trained fractions of each matrix, for SO."""
    depth: int | None = None
    """Blocks of each tower, to keep it short; none = all."""
    batch: tuple[int, ...] = (8,)
    """Examples per step where time is measured."""
    memory_batch: tuple[int, ...] = (32,)
    """Examples per step where memory is simulated."""
    rounds: int = 5
    """Rounds that count; two of warm-up come first."""
    device: str = "cpu"
    """Where to compute: cpu, cuda, cuda:1, ..."""
    precision: Literal["fp32", "bf16", "autocast"] = "fp32"
    """Of the timed steps: bf16 keeps weights in bf16 too, autocast keeps them in fp32."""
    graph: bool = False
    """Time the whole step as one CUDA graph."""
    predicted: tuple[Path, ...] = ()
    """Result files with simulated memory, for the part allocator: it does these steps on a GPU."""
    release: Path | None = None
    """A clone of nairouz/SO, for the variant released-so."""
    snell_release: Path | None = None
    """A clone of ssfgunner/SNELL, for the variants released-snell and released-klora."""
    out: Path = Path("results/speed.json")
    """The result file; if it is there, unfinished and of the same measurement, it is continued."""
    table: Path | None = None
    """Write the tables as Markdown to this file too."""
    page: Path | None = None
    """Put the tables into this page too, where it has a place for the result file's name."""
    figure: Path | None = None
    """Draw memory against depth into this PNG file."""
    render: Path | None = None
    """Measure nothing: show the tables of this result file."""


@dataclass(frozen=True, kw_only=True)
class SnellOptions(Options):
    """Measure SNELL (r 8, sparsity 0.9) beside full fine-tuning, LoRA and the release.

    Weights are random. Time is the process's own, in turns; memory is simulated, to the byte.
    """

    parts: tuple[Part, ...] = ("time", "memory", "transient", "threshold", "pieces")
    variants: tuple[str, ...] = (
        "floor", "full", "lora", "strong-lora", "released-klora", "released-snell",
        "klora", "snell", "snell-torch", "snell-low",
    )  # fmt: skip
    memory_batch: tuple[int, ...] = (8, 32)
    out: Path = Path("results/snell-speed/quick.json")


VITS = ("vit-b-16", "vit-l-16", "vit-h-14")
MODELS = (*VITS, "clip-vit-b-16", "bert-base")
_FOLDER = Path("results/snell-speed")
_SIMULATED = tuple(
    Path("benchmarks/results", name)
    for name in ("snell-speed/memory.json", "so-speed/memory.json", "so-speed/memory-vit-h.json")
)
PRESETS: dict[str, tuple[str, SnellOptions]] = {
    "quick": (
        "every table but the depth, two blocks of ViT-B, batch 8: some minutes",
        SnellOptions(depth=2, memory_batch=(8,), rounds=3),
    ),
    "time-8": (
        "the published step times, ViT-B at batch 8",
        SnellOptions(parts=("time",), out=_FOLDER / "time-8.json"),
    ),
    "time-32": (
        "the published step times, ViT-B at batch 32",
        SnellOptions(parts=("time",), batch=(32,), out=_FOLDER / "time-32.json"),
    ),
    "memory": (
        "the published memory, ViT-B, L and H at batch 8 and 32",
        SnellOptions(
            parts=("memory",),
            model=VITS,
            variants=(
                "floor",
                "full",
                "lora",
                "strong-lora",
                "released-klora",
                "released-snell",
                "klora",
                "snell",
                "snell-low",
            ),
            out=_FOLDER / "memory.json",
        ),
    ),
    "depth": (
        "memory against the number of blocks, ViT-B, L and H at batch 32",
        SnellOptions(
            parts=("depth",),
            model=VITS,
            variants=("full", "lora", "released-snell", "snell"),
            memory_batch=(32,),
            out=_FOLDER / "depth.json",
        ),
    ),
    "layer": (
        "one layer: transient memory, the threshold alone, the pieces of a step",
        SnellOptions(parts=("transient", "threshold", "pieces"), out=_FOLDER / "layer.json"),
    ),
    "gpu": (
        "on a GPU: step times at batch 32 and the pieces of a step (add --precision bf16)",
        SnellOptions(
            parts=("time", "threshold", "pieces"),
            batch=(32,),
            device="cuda",
            rounds=20,
            out=_FOLDER / "gpu.json",
        ),
    ),
    "allocator": (
        "on a GPU: the allocator's peak beside the simulated one of the reviewed files",
        SnellOptions(
            parts=("allocator",),
            model=MODELS,
            variants=("floor", "full", "lora", "snell", "snell-low", "so-free", "so-low"),
            densities=(1e-3,),
            memory_batch=(32,),
            device="cuda",
            predicted=_SIMULATED,
            out=_FOLDER / "allocator.json",
        ),
    ),
}
"""What `python -m fewshot_bench.speed.snell NAME` starts from."""


def check_options(options: Options) -> None:
    """Refuse what makes no sense before anything is measured.

    Args:
        options: As typed.

    Raises:
        ValueError: An option is out of range; the message names it.
    """
    for name in ("batch", "memory_batch", "rounds"):
        value = getattr(options, name)
        for number in value if isinstance(value, tuple) else (value,):
            if number < 1:
                raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {number}")
    for density in options.densities:
        if not 0.0 < density <= 1.0:
            raise ValueError(f"--densities must be in (0, 1], got {density}: pass e.g. 1e-3")
    for name in ("model", "variants", "densities", "parts", "batch", "memory_batch"):
        values = getattr(options, name)
        if not values or len(set(values)) < len(values):
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} must name one or more, each once, got {values}")
    if "allocator" in options.parts:
        if not options.device.startswith("cuda"):
            raise ValueError(f"--parts allocator needs a CUDA device, got {options.device}")
        if not options.predicted:
            raise ValueError("--parts allocator needs --predicted: files with simulated memory")
    if options.graph and not options.device.startswith("cuda"):
        raise ValueError(f"--graph needs a CUDA device, got --device {options.device}")
