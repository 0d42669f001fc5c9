"""The command `fewshot`: what may be typed, and how it ends.

Only light modules are imported before the arguments are known, so that `--help` answers at once.
What is wrong with the input becomes one line on stderr and exit code 2.
"""

import dataclasses
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from fewshot_bench.config import RunConfig
from fewshot_bench.usage import parse

__all__ = ["Evaluate", "List", "Report", "Run", "Sweep", "main"]

WRONG_INPUT, UNEXPECTED, INTERRUPTED = 2, 1, 130
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Debug:
    """What every command understands."""

    debug: bool = False
    """Show where an error came from (a traceback)."""


@dataclass(frozen=True, kw_only=True)
class Run(Debug):
    """Adapt one backbone to a few examples per class, and measure the result."""

    preset: str | None = None
    """Start from a preset's defaults and overrides; the options given here win."""
    out: Path = Path("results")
    """The result is written to OUT/runs/<name of the run>.json."""
    save: Path | None = None
    """Folder that gets the adapted model, for `fewshot evaluate`."""
    config: Annotated[RunConfig, tyro.conf.arg(name="")] = field(default_factory=RunConfig)


@dataclass(frozen=True, kw_only=True)
class Sweep(Debug):
    """Do a grid of runs in parallel; what is done already is skipped."""

    preset: str | None = None
    """A preset (`fewshot list presets`) or a .toml file of one's own."""
    out: Path = Path("results")
    """Results are written to OUT/runs/, one file per run."""
    jobs: int | None = None
    """Parallel processes; none = one per processor core."""
    report: bool = False
    """Write the report at the end and show its tables."""
    retry_failed: bool = False
    """Do failed runs again."""
    time_limit: float | None = None
    """Seconds that a run may take before it is ended and recorded as failed; none = any time."""
    methods: tuple[str, ...] = ()
    """These methods, in place of the preset's; without a preset all."""
    backbones: tuple[str, ...] = ()
    """These backbones, in place of the preset's."""
    datasets: tuple[str, ...] = ()
    """These datasets (names, folders or text files), in place of the preset's."""
    shots: tuple[int, ...] = ()
    """These numbers of training examples per class, in place of the preset's."""
    seeds: tuple[int, ...] = ()
    """These seeds, in place of the preset's; without a preset 1 2 3."""
    checkpoints: tuple[str, ...] = ()
    """`pretrained`, `random` or .safetensors files, in place of the preset's."""
    protocol: str | None = None
    """How shots are drawn, in every run."""
    replace: bool = False
    """Draw with repetition when a class has fewer examples than shots."""
    text_column: str | None = None
    """Column of the text, for one's own text files."""
    label_column: str | None = None
    """Column of the label, for one's own text files."""
    test_limit: int | None = None
    """Evaluate on N test examples only, in every run."""
    steps: int | None = None
    """Optimizer steps of every run."""
    batch_size: int | None = None
    """Training examples per step of every run."""
    lr: float | None = None
    """Learning rate of the backbone's parameters in every run."""
    head_lr: float | None = None
    """Learning rate of the head in every run."""
    weight_decay: float | None = None
    """Weight decay of every run."""
    schedule: Literal["cosine", "constant"] | None = None
    """Learning rate over time in every run."""
    device: str | None = None
    """Where to compute: cpu, cuda, cuda:1, ..."""
    threads: int | None = None
    """CPU threads of every run."""
    root: str | None = None
    """Folder of the datasets on disk; none = the variable FEWSHOT_DATA_ROOT."""
    weights: str | None = None
    """Folder with the weights that a preset names; none = the variable FEWSHOT_WEIGHTS."""
    best_on_test: bool = False
    """Keep the weights that do best on the TEST set, as some releases do; every table marks it."""


@dataclass(frozen=True, kw_only=True)
class Evaluate(Debug):
    """Measure the accuracy of a saved model again."""

    folder: tyro.conf.Positional[Path]
    """What `fewshot run --save` wrote."""
    dataset: str | None = None
    """Other data with the same classes; none = those it was trained on."""
    device: str | None = None
    """Where to compute; none = where it was trained."""
    root: str | None = None
    """Folder of the datasets on disk; none = the variable FEWSHOT_DATA_ROOT."""


@dataclass(frozen=True, kw_only=True)
class Report(Debug):
    """Turn the result files of a folder into tables, plots and an HTML page."""

    folder: tyro.conf.Positional[Path] = Path("results")
    """What `fewshot run` and `fewshot sweep` wrote to."""
    against_paper: bool = False
    """Show each number beside the published one that its preset names."""


@dataclass(frozen=True, kw_only=True)
class List(Debug):
    """Show what there is to choose from."""

    what: tyro.conf.Positional[str] = "all"
    """all, methods, backbones, datasets, presets, or the name of a backbone."""


COMMANDS: dict[str, type] = {
    "run": Run, "sweep": Sweep, "evaluate": Evaluate, "report": Report, "list": List,
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: What was typed after `fewshot`; `None` = the process's own arguments.

    Returns:
        The exit code: 0; 2 for wrong input, with one line on stderr; 130 after Ctrl-C; 1 for an
        error in the program itself.

    Raises:
        SystemExit: After `--help`.
    """
    typed = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in typed
    try:
        return _dispatch(_with_preset(parse(COMMANDS, typed), typed))
    except KeyboardInterrupt:
        _say("interrupted: what was finished is kept, the same command does the rest", debug)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNEXPECTED
    except (ValueError, OSError, ArithmeticError) as error:
        _say(str(error), debug)
        return WRONG_INPUT
    except Exception as error:
        hint = "" if debug else " (an error in the program: --debug shows where)"
        _say(f"{type(error).__name__}: {error}{hint}", debug)
        return UNEXPECTED


def _dispatch(command: object) -> int:
    """Carry a command out."""
    from fewshot_bench import commands

    match command:
        case Run():
            return commands.run(command.config, command.out, command.save)
        case Sweep():
            return commands.sweep(command, given_fields(command))
        case Evaluate():
            return commands.evaluate(command.folder, command.dataset, command.device, command.root)
        case Report():
            return commands.report(command.folder, against_paper=command.against_paper)
        case List():
            return commands.show_lists(command.what)
    raise TypeError(f"no command {command!r}")


def _with_preset(command: T, typed: list[str]) -> T:
    """Parse a run again with its preset in place of the defaults, so that what was typed wins."""
    if not isinstance(command, Run) or command.preset is None:
        return command
    from fewshot_bench.grid import load_preset, preset_of_run

    config = preset_of_run(load_preset(command.preset), command.config)
    return parse(COMMANDS, typed, {"run": Run(config=config)})


def given_fields(command: Sweep) -> dict[str, Any]:
    """List the options of a sweep that were given and that every run gets.

    Args:
        command: As typed.

    Returns:
        Fields of `RunConfig` to values; the axes of the grid are not among them.

    Example:
        >>> given_fields(Sweep(steps=50, methods=("so",)))
        {'steps': 50}
    """
    names = {f.name for f in dataclasses.fields(RunConfig)} - {"shots"}
    values = {name: getattr(command, name, None) for name in names}
    values["loop.selection"] = "best-on-test" if command.best_on_test else None
    # zero is a choice; a flag that was not set is none
    return {k: value for k, value in values.items() if value is not None and value is not False}


def _say(message: str, debug: bool) -> None:
    """Write one line to stderr, after the traceback if that was asked for."""
    if debug:
        traceback.print_exc()
    print(f"fewshot: {' '.join(message.split())}", file=sys.stderr, flush=True)
