"""Choosing weights by their score on the test set, as some releases do.

It flatters: by default nothing here runs, and what comes out of it is marked wherever it is shown.
"""

from typing import TYPE_CHECKING

import torch

from fewshot_bench import metrics
from fewshot_bench.loop_options import LoopOptions
from fewshot_bench.tuned import Tuned

if TYPE_CHECKING:
    from fewshot_data import FewShotData

__all__ = ["BestOnTest"]

LAST_EPOCHS = 10
"""The releases look after each of these, too."""


class BestOnTest:
    """Look at the test set while training, and keep the weights that do best there.

    Args:
        tuned: What is trained.
        data: Its test set is what is looked at.
        loop: Says how often.
        epochs: Passes over the training set in all.
        device: Where the model is.
    """

    def __init__(
        self, tuned: Tuned, data: "FewShotData", loop: LoopOptions, epochs: int, device: str
    ) -> None:
        self.tuned, self.data, self.loop, self.device = tuned, data, loop, device
        self.epochs, self.epoch = epochs, 0
        self.best: float | None = None
        self.step: int | None = None
        self.kept: list[torch.Tensor] = []

    def after(self, step: int) -> None:
        """Look, if it is time to, after a pass over the training set.

        Args:
            step: Its last step, from 0.
        """
        self.epoch += 1
        last = self.epoch > self.epochs - LAST_EPOCHS
        if last or self.epoch % self.loop.look_every == 0:
            self._look(step)

    def restore(self) -> int | None:
        """Put the best weights back.

        Returns:
            The step after which they were best; `None` when nobody ever looked.
        """
        with torch.no_grad():
            for parameter, kept in zip(self.tuned.trained(), self.kept, strict=False):
                parameter.copy_(kept)
        return self.step

    def _look(self, step: int) -> None:
        """Score the weights of now; the first of equals stays."""
        batches = self.data.test_batches(metrics.TEST_BATCH)
        scores = metrics.evaluate(
            self.tuned.model, batches, device=self.device, metric=self.data.spec.metric
        )
        if self.best is None or scores.score > self.best:
            self.best, self.step = scores.score, step
            self.kept = metrics.snapshot(self.tuned)
