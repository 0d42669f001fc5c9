"""What a method hands to the loop: a model, and an optimizer for the part of it that may move."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

__all__ = ["Tuned"]


@dataclass(frozen=True)
class Tuned:
    """A model ready to be trained, or to be evaluated when there is nothing to train.

    Args:
        model: Maps a batch, a dictionary of tensors, to logits `(batch, classes)`.
        optimizer: Holds the trained parameters; `None` when the method trains nothing.
        training: Gives what surrounds the loop: a method may change how the model trains, and
            leaves it as it was.
        survey: Reads one pass of the training batches before the loop, where a method chooses from
            the data what may move; a saved model is loaded without it.
    """

    model: nn.Module
    optimizer: Optimizer | None = None
    training: Callable[[], AbstractContextManager[Any]] = nullcontext
    survey: Callable[[Iterable[dict[str, torch.Tensor]]], None] | None = None

    def trained(self) -> Iterator[torch.Tensor]:
        """Go through the parameters that the optimizer may change.

        Yields:
            Each parameter once; none without an optimizer.
        """
        for group in self.optimizer.param_groups if self.optimizer else ():
            yield from group["params"]

    def rates(self) -> dict[str, float]:
        """Give the current learning rates.

        Returns:
            Group name to learning rate, for messages.
        """
        groups = self.optimizer.param_groups if self.optimizer else ()
        return {str(g.get("name", i)): float(g["lr"]) for i, g in enumerate(groups)}
