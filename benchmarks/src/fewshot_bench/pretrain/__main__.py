"""`python -m fewshot_bench.pretrain [vit] [clip] [bert] [--steps N] [--out FOLDER] [--tokenizer]`.

Makes the weights of the tiny backbones again. About twelve minutes of one core for all three.
"""

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fewshot_bench.pretrain.card import write_card, write_weights
from fewshot_bench.pretrain.recipe import Recipe, pretrain
from fewshot_bench.pretrain.score import scores
from fewshot_bench.pretrain.tasks import TASKS
from vision_backbones.tiny import TOKENIZER_FILE, WEIGHTS_FOLDER


@dataclass(frozen=True)
class Options:
    """Pretrain the tiny backbones on rendered characters and their names."""

    backbones: Annotated[tuple[Literal["vit", "clip", "bert"], ...], tyro.conf.Positional] = (
        "vit",
        "clip",
        "bert",
    )
    """Which ones."""
    steps: int | None = None
    """Steps, when not those of the recipe."""
    out: Path = WEIGHTS_FOLDER
    """Folder of the weights and cards."""
    tokenizer: bool = False
    """Train the shared vocabulary first; it is another one then, and needs new weights."""


def main(options: Options) -> None:
    """Make what was asked for, one after the other."""
    torch.set_num_threads(1)  # the cards' first losses are compared to the last digits
    console = Console()
    if options.tokenizer:
        from fewshot_bench.pretrain.tokenizer import write_tokenizer

        write_tokenizer(TOKENIZER_FILE)
    for name in options.backbones:
        recipe, _ = TASKS[name]
        if options.steps is not None:
            recipe = dataclasses.replace(recipe, steps=options.steps)
        make(name, recipe, options.out, console)


def make(name: str, recipe: Recipe, out: Path, console: Console) -> None:
    """Pretrain one backbone, score it, and write weights and card."""
    out.mkdir(parents=True, exist_ok=True)
    task, start = TASKS[name][1](recipe.seed), time.perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        bar = progress.add_task(recipe.backbone, total=recipe.steps)

        def on_step(step: int, loss: float) -> None:
            progress.update(bar, completed=step + 1, description=f"{recipe.backbone} {loss:.3f}")
            if not console.is_terminal and step % 500 == 0:
                console.print(f"{recipe.backbone}: step {step}, loss {loss:.3f}")

        losses = pretrain(task, recipe, on_step=on_step)
    seconds = time.perf_counter() - start
    weights = out / f"{recipe.backbone}.safetensors"
    write_weights(task.model, weights)
    found = {
        "pretrained": scores(recipe.backbone, str(weights)),
        "random": scores(recipe.backbone, "random"),
    }
    write_card(weights.with_suffix(".json"), recipe, losses, seconds, found)
    console.print(f"{recipe.backbone}: {seconds:.0f} s, accuracy in percent:")
    console.print(found)


if __name__ == "__main__":
    main(tyro.cli(Options))
