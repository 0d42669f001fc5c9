"""One loop for the three recipes: Muon on the blocks' matrices, AdamW on the rest, cosine."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

__all__ = ["Recipe", "Task", "pretrain"]

WARMUP_STEPS = 100


@dataclass(frozen=True)
class Recipe:
    """The numbers of a recipe, as they stand on the card.

    Args:
        backbone: Catalog name.
        steps: Optimizer steps.
        batch_size: Samples a step.
        muon_lr: Peak learning rate of the blocks' matrices, on AdamW's scale of updates.
        adamw_lr: Peak learning rate of everything else.
        weight_decay: Decoupled.
        seed: Of the first weights, the samples and their distortions.
    """

    backbone: str
    steps: int
    batch_size: int
    muon_lr: float
    adamw_lr: float
    weight_decay: float = 0.01
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Give the recipe as a table for the card.

        Returns:
            Field names to numbers.
        """
        return asdict(self)


class Task(Protocol):
    """What is learned in pretraining: a model, what its loss is, and how good it is by then."""

    @property
    def model(self) -> nn.Module:
        """The library's module, whose weights are kept."""
        ...

    def matrices(self) -> list[nn.Parameter]:
        """The 2-D weights of the blocks."""
        ...

    def heads(self) -> list[nn.Parameter]:
        """Parameters of the pretraining task alone, which are thrown away."""
        ...

    def loss(self, progress: float, batch_size: int) -> Tensor:
        """Draw a batch and give its loss; `progress` goes from 0 to 1."""
        ...


def pretrain(
    task: Task, recipe: Recipe, *, on_step: Callable[[int, float], None], stop: int | None = None
) -> list[float]:
    """Train a task.

    Args:
        task: Model and loss.
        recipe: Its numbers.
        on_step: Called after every step with its number, from 0, and its loss.
        stop: Leave after so many steps of the full schedule, to compare with a card.

    Returns:
        The loss of every step.
    """
    task.model.train()
    optimizers = _optimizers(task, recipe)
    losses: list[float] = []
    for step in range(recipe.steps if stop is None else stop):
        factor = _factor(step, recipe.steps)
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = group["peak_lr"] * factor
        loss = task.loss(step / recipe.steps, recipe.batch_size)
        task.model.zero_grad(set_to_none=True)
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_([*task.model.parameters(), *task.heads()], 1.0)
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.item())
        on_step(step, losses[-1])
    return losses


def _optimizers(task: Task, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon where it is defined, AdamW elsewhere."""
    matrices = task.matrices()
    ids = {id(parameter) for parameter in matrices}
    rest = [p for p in [*task.model.parameters(), *task.heads()] if id(p) not in ids]
    muon = torch.optim.Muon(
        [{"params": matrices, "peak_lr": recipe.muon_lr}],
        lr=recipe.muon_lr,
        weight_decay=recipe.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
    adamw = torch.optim.AdamW(
        [{"params": rest, "peak_lr": recipe.adamw_lr}],
        lr=recipe.adamw_lr,
        weight_decay=recipe.weight_decay,
    )
    return [muon, adamw]


def _factor(step: int, steps: int) -> float:
    """Rise over the first hundred steps, then half a cosine to zero."""
    return min(1.0, (step + 1) / WARMUP_STEPS) * 0.5 * (1 + math.cos(math.pi * step / steps))
