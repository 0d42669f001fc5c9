"""`python -m fewshot_bench.sparsity_pattern [--out FILE.png]`: what each layer keeps.

A real training is watched through the allocator's public pattern, or a saved adapter is read. Only
light modules are imported before the arguments are known.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from fewshot_bench.atomic import check_place, write_bytes
from fewshot_bench.config import RunConfig, SnellOptions

__all__ = ["Options", "main", "pattern_of_adapter", "watch"]

WRONG_INPUT = 2
FILE = "adapter_model.safetensors"
History = list[tuple[int, dict[str, float]]]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Train tiny-vit with SNELL layers that compete for entries, and draw what each one got."""

    out: Path = Path("results/snell-pattern.png")
    """The picture, a PNG file."""
    adapter: Path | None = None
    """Draw this saved adapter (what `fewshot run --save` or PEFT wrote) instead of training."""
    dataset: str = "glyphs-georgian-outline"
    """What is trained on, 16 examples per class."""
    steps: int = 100
    """Optimizer steps."""
    sparsity: float = 0.9
    """Share of all entries that is zero in the end."""
    seed: int = 0
    """Selects the shots, the factors and the batch order."""


def watch(config: RunConfig) -> History:
    """Train as configured and write down every allocation.

    Args:
        config: A run of `snell`, its budget `uniform`: the competition is added here.

    Returns:
        Steps done and the sparsity of every layer from then on.

    Raises:
        ValueError: The configuration is impossible.
    """
    from fewshot_bench.allocation import allocate_while_training
    from fewshot_bench.fit import fit
    from fewshot_bench.methods import find_method
    from fewshot_bench.reproducible import reproducible
    from fewshot_bench.seeds import derive
    from fewshot_bench.task import open_task

    history: History = []
    with reproducible(config):
        data, backbone = open_task(config)
        tuned = find_method(config.method).build(backbone, config)
        allocate_while_training(
            tuned, config, on_allocate=lambda done, pattern: history.append((done, pattern))
        )
        batches = data.train_batches(config.batch_size, seed=derive(config.seed).order)
        fit(tuned, batches, steps=config.steps, schedule=config.schedule)
    return history


def pattern_of_adapter(folder: str | Path) -> dict[str, float]:
    """Read the sparsity of every layer from a saved SNELL adapter.

    Args:
        folder: What `save_pretrained` wrote.

    Returns:
        Sparsity by module name.

    Raises:
        FileNotFoundError: There is no adapter.
        ValueError: It has no SNELL layer.
    """
    from safetensors.torch import load_file

    path = Path(folder) / FILE
    if not path.is_file():
        raise FileNotFoundError(f"no {FILE} in {folder}: give the folder of a saved adapter")
    state, pattern = load_file(path), {}
    for key in state:
        prefix, end = key.rpartition(".snell_factors.kept")[0], key.endswith(".snell_factors.kept")
        if not end:
            continue
        inner, outer = (state[f"{prefix}.snell_factors.{side}"] for side in ("inner", "outer"))
        entries = inner.shape[-2] * outer.shape[-2]
        pattern[prefix.removeprefix("base_model.model.")] = 1 - int(state[key]) / entries
    if not pattern:
        raise ValueError(f"{path} has no SNELL layer: give an adapter that SnellConfig made")
    return pattern


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: What was typed; `None` = the process's own.

    Returns:
        The exit code: 0; 2 for wrong input, with one line on stderr.

    Raises:
        SystemExit: After `--help`, or on an unknown option.
    """
    options = tyro.cli(Options, prog="python -m fewshot_bench.sparsity_pattern", args=arguments)
    try:
        _draw(options)
    except (ValueError, OSError) as error:
        message = " ".join(str(error).split())
        print(f"fewshot_bench.sparsity_pattern: {message}", file=sys.stderr, flush=True)
        return WRONG_INPUT
    return 0


def _draw(options: Options) -> None:
    """Train or read, draw, write and say what every layer keeps."""
    check_place(options.out)
    if options.adapter is None:
        if options.steps < 1:
            raise ValueError(f"--steps must be at least 1, got {options.steps}")
        snell = SnellOptions(kernel="mixed", sparsity=options.sparsity)
        history = watch(
            RunConfig(
                method="snell",
                dataset=options.dataset,
                shots=16,
                steps=options.steps,
                seed=options.seed,
                snell=snell,
            )
        )
        pattern = history[-1][1]
    else:
        history, pattern = [], pattern_of_adapter(options.adapter)

    from fewshot_bench.pattern_picture import pattern_png

    write_bytes(options.out, pattern_png(pattern, history))
    for name, sparsity in pattern.items():
        print(f"{name}: {1 - sparsity:.1%} kept")
    print(f"wrote: {options.out}")


if __name__ == "__main__":
    sys.exit(main())
