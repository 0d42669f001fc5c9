"""`python -m fewshot_bench.support_life [--out FILE.png]`: the life of SO's supports, as a picture.

A real training is watched between its steps, through the optimizer's public state. Only light
modules are imported before the arguments are known.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from fewshot_bench.atomic import check_place, write_bytes, write_text
from fewshot_bench.config import RunConfig, SOConfig
from fewshot_bench.schema import closest, plain

if TYPE_CHECKING:
    from fewshot_bench.tuned import Tuned
    from fewshot_data import FewShotData

__all__ = ["Life", "Options", "main", "watch"]

WRONG_INPUT = 2


@dataclass(frozen=True, kw_only=True)
class Options:
    """Train tiny-vit on a few digits with SO and draw what became of one matrix's entries."""

    out: Path = Path("results/support-life.png")
    """The picture, a PNG file."""
    data: Path | None = None
    """Write what is drawn to this JSON file too."""
    matrix: str = "model.blocks.1.mlp.fc2.weight"
    """Whose entries; every matrix of the blocks is trained."""
    steps: int = 60
    """Optimizer steps."""
    density: float = 5e-4
    """Share of each matrix in its support."""
    T: int = 10
    """Steps that a support lives."""
    seed: int = 0
    """Selects the shots, the supports and the batch order."""


@dataclass(frozen=True)
class Life:
    """What one matrix did in each step; list `t` is about step `t + 1`.

    Args:
        matrix: Its name in the model.
        n: Its entries.
        k: Entries of a support.
        T: Steps that a support lives.
        seed: Of the run.
    """

    matrix: str
    n: int
    k: int
    T: int
    seed: int
    support: list[list[int]] = field(default_factory=list)
    """$S$, flat row-major positions, ascending."""
    kept: list[list[int]] = field(default_factory=list)
    """$K$ after the step."""
    moved: list[list[int]] = field(default_factory=list)
    """Where the weight is another than before the step, bit for bit."""
    draws: list[int] = field(default_factory=list)
    """Supports drawn so far."""
    loss: list[float] = field(default_factory=list)

    def unions(self) -> list[set[int]]:
        r"""Join support and what was kept before, $U = K \cup S$.

        Returns:
            The entries that each step may move.
        """
        before = [[], *self.kept[:-1]]
        return [set(k) | set(s) for k, s in zip(before, self.support, strict=True)]

    def redraws(self) -> list[int]:
        """Find where supports changed.

        Returns:
            Steps done before each support but the first was drawn.

        Examples:
            >>> Life("weight", n=9, k=1, T=2, seed=0, draws=[1, 1, 2]).redraws()
            [2]
        """
        pairs = zip(self.draws, self.draws[1:], strict=False)
        return [t for t, (old, new) in enumerate(pairs, start=1) if old != new]

    def shares(self) -> list[float]:
        """Count how much of what is kept has a gradient.

        Returns:
            Of each step, the share of the kept set that lies in the support.
        """
        both = zip(self.support, self.kept, strict=True)
        return [len(set(support) & set(kept)) / len(kept) for support, kept in both]

    def touched(self) -> list[int]:
        """Count the entries that were in any support.

        Returns:
            How many, up to and including each step.
        """
        seen: set[int] = set()
        return [len(seen := seen | set(support)) for support in self.support]

    def survival(self, windows: int) -> list[float]:
        """Follow each support: the share of its entries that is kept some redraws later.

        Args:
            windows: 0 asks at its last step, 1 at the last step of the next support, ...

        Returns:
            One share per support that is old enough.
        """
        ends = [*self.redraws(), len(self.support)]
        pairs = zip(ends, ends[windows:], strict=False)
        return [
            len(set(self.support[own - 1]) & set(self.kept[end - 1])) / self.k for own, end in pairs
        ]


def watch(config: RunConfig, matrix: str) -> Life:
    """Train as configured and write down what happens to one matrix.

    Args:
        config: A run of the method `so` with dense gradients, so that a parameter is its weight.
        matrix: Name of a matrix of the blocks.

    Returns:
        Its life.

    Raises:
        ValueError: There is no such matrix, or the configuration is impossible.
    """
    from fewshot_bench.methods import find_method
    from fewshot_bench.reproducible import reproducible
    from fewshot_bench.task import open_task

    if (config.method, config.so.memory) != ("so", "dense"):
        raise ValueError(
            f"config must have method 'so' and so.memory 'dense', got {config.method!r} and "
            f"{config.so.memory!r}: only then a parameter of the optimizer is the weight itself"
        )
    with reproducible(config):
        data, backbone = open_task(config)
        if matrix not in backbone.matrices():
            near = closest(matrix, list(backbone.matrices()))
            raise ValueError(f"unknown matrix {matrix!r}: {near}")
        tuned = find_method(config.method).build(backbone, config)
        return _trained(config, data, tuned, matrix)


def _trained(config: RunConfig, data: "FewShotData", tuned: "Tuned", matrix: str) -> Life:
    """Run the loop, and read the weight and the optimizer's state after every step."""
    from fewshot_bench.fit import fit
    from fewshot_bench.seeds import derive

    optimizer: Any = tuned.optimizer
    weight = tuned.model.get_parameter(matrix)
    k = len(optimizer.coming_support(weight))
    life = Life(matrix, weight.numel(), k, config.so.T, config.seed)
    before = weight.detach().clone()

    def on_step(step: int, loss: float) -> None:
        state = optimizer.state[weight]
        life.support.append(state["support"].tolist())
        life.kept.append(state["kept"].tolist())
        life.moved.append((weight != before).flatten().nonzero().view(-1).tolist())
        life.draws.append(state["draws"])
        life.loss.append(loss)
        before.copy_(weight.detach())

    batches = data.train_batches(config.batch_size, seed=derive(config.seed).order)
    fit(tuned, batches, steps=config.steps, schedule=config.schedule, on_step=on_step)
    return life


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: What was typed; `None` = the process's own.

    Returns:
        The exit code: 0; 2 for wrong input, with one line on stderr.

    Raises:
        SystemExit: After `--help`, or on an unknown option.
    """
    options = tyro.cli(Options, prog="python -m fewshot_bench.support_life", args=arguments)
    try:
        _draw(options)
    except (ValueError, OSError) as error:
        message = " ".join(str(error).split())
        print(f"fewshot_bench.support_life: {message}", file=sys.stderr, flush=True)
        return WRONG_INPUT
    return 0


def _draw(options: Options) -> None:
    """Train, draw, write and say what was measured."""
    for name, least in (("steps", 1), ("T", 1), ("seed", 0)):
        if getattr(options, name) < least:
            raise ValueError(f"--{name} must be at least {least}, got {getattr(options, name)}")
    if not 0.0 < options.density <= 1.0:
        raise ValueError(f"--density must be in (0, 1], got {options.density}: pass e.g. 5e-4")
    files = [file for file in (options.out, options.data) if file is not None]
    for file in files:
        check_place(file)
    so = SOConfig(density_ratio=options.density, T=options.T, memory="dense")
    config = RunConfig(method="so", shots=16, steps=options.steps, seed=options.seed, so=so)
    life = watch(config, options.matrix)

    from fewshot_bench.support_picture import life_png

    write_bytes(options.out, life_png(life))
    if options.data is not None:
        write_text(options.data, json.dumps(_numbers(life), allow_nan=False) + "\n")
    print(f"{life.matrix}: k = {life.k} of n = {life.n} entries, seed {life.seed}")
    for windows, when in enumerate(("its last step", "the end of the next", "the end of a third")):
        if shares := life.survival(windows):
            print(f"kept at {when}: {sum(shares) / len(shares):.0%} of a support's entries")
    print(f"wrote: {', '.join(map(str, files))}")


def _numbers(life: Life) -> dict[str, Any]:
    """Everything that is drawn, as a table that JSON can hold."""
    return {
        **plain(life),
        "redraws": life.redraws(),
        "moved_per_k": [len(union) / life.k for union in life.unions()],
        "kept_from_support": life.shares(),
        "touched": life.touched(),
        "survival": [life.survival(windows) for windows in range(3)],
    }


if __name__ == "__main__":
    sys.exit(main())
