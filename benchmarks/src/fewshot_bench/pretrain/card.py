"""What ships: fp16 weights, and the card that says where they come from."""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from fewshot_bench.atomic import write_bytes, write_text
from fewshot_bench.pretrain.recipe import Recipe

__all__ = ["FIRST_LOSSES", "read_card", "write_card", "write_weights"]

FIRST_LOSSES = 20
PACKAGES = ("torch", "timm", "open_clip_torch", "transformers", "tokenizers", "pillow")


def write_weights(model: nn.Module, path: Path) -> None:
    """Write a model's weights as fp16 safetensors, whole or not at all.

    Args:
        model: The library's module.
        path: The destination.

    Raises:
        OSError: It could not be written; no file was changed.
    """
    half = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    write_bytes(path, save(half))


def write_card(
    path: Path,
    recipe: Recipe,
    losses: list[float],
    seconds: float,
    scores: dict[str, dict[str, float]],
) -> None:
    """Write the card of a weights file.

    Args:
        path: The destination.
        recipe: How the weights were made.
        losses: Of every step; the first ones go onto the card, for a test to compute again.
        seconds: How long it took, wall time of one thread.
        scores: Accuracy in percent with these weights (`pretrained`) and with `random` ones.
    """
    card = {
        "recipe": recipe.to_dict(),
        "made_by": "nox -s pretrain_tiny",
        "seconds": round(seconds),
        "threads": torch.get_num_threads(),
        "first_losses": losses[:FIRST_LOSSES],
        "last_loss": sum(losses[-50:]) / len(losses[-50:]),
        "accuracy_percent": scores,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }
    write_text(path, json.dumps(card, indent=1) + "\n")


def read_card(path: Path) -> dict[str, Any]:
    """Read a card.

    Args:
        path: The JSON file.

    Returns:
        What `write_card` wrote.
    """
    return json.loads(path.read_text(encoding="utf-8"))
