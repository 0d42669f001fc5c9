"""Everything that is counted: right answers, parameters, bytes. No branch for any method."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from fewshot_bench.memory import tensors_in
from fewshot_bench.scores import SCORES
from fewshot_bench.tuned import Tuned

__all__ = ["Metrics", "NonFiniteLogits", "evaluate", "gradient_bytes", "state_bytes"]


TEST_BATCH = 256
"""Examples per batch of every evaluation: another size could round a logit differently."""


class NonFiniteLogits(ArithmeticError):
    """The adapted model answers NaN or infinity."""


@dataclass(frozen=True)
class Metrics:
    """How many test examples a model got right."""

    correct: int
    count: int
    metric: str = "top1"
    score: float = math.nan
    """In the dataset's own metric; the accuracy where that is `top1`."""

    @property
    def accuracy(self) -> float:
        """Correct / count, in [0, 1]."""
        return self.correct / self.count

    @property
    def error(self) -> float:
        """Wrong / count, in [0, 1]."""
        return (self.count - self.correct) / self.count


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[dict[str, torch.Tensor]],
    *,
    device: str = "cpu",
    metric: str = "top1",
) -> Metrics:
    r"""Count how often the largest logit is that of the label, and score as the dataset does.

    $$ \text{accuracy} = \frac1N \sum_{i=1}^N [\arg\max_c z_{ic} = y_i] $$

    Args:
        model: Maps a batch to logits `(batch, classes)`; its training flags are left as found.
        batches: One pass over the test set, each with `label` `(batch,)`.
        device: Where the model is.
        metric: A key of `scores.SCORES`.

    Returns:
        The counts and the score.

    Raises:
        ValueError: There is no test example, or a label that the model has no logit for.
        NonFiniteLogits: A logit is NaN or infinite, so that an accuracy would mean nothing.

    Examples:
        >>> batch = {"image": torch.eye(3), "label": torch.tensor([0, 1, 1])}
        >>> class First(nn.Module):
        ...     def forward(self, batch):
        ...         return batch["image"]
        >>> evaluate(First(), [batch]).correct
        2
    """
    training = model.training
    model.eval()
    answers, labels = [], []
    for batch in batches:
        logits = model({key: value.to(device) for key, value in batch.items()})
        if not logits.isfinite().all():
            raise NonFiniteLogits(
                "the adapted model's logits are not finite: lower the learning rate (--lr)"
            )
        answers.append(logits.float().cpu())
        labels.append(batch["label"].cpu())
    model.train(training)
    if not answers:
        raise ValueError("the test set is empty: add test examples or choose another dataset")
    return _scored(torch.cat(answers), torch.cat(labels), metric)


def _scored(logits: torch.Tensor, labels: torch.Tensor, metric: str) -> Metrics:
    """Count and score all answers at once."""
    largest, classes = int(labels.max()), logits.shape[1]
    if largest >= classes:
        raise ValueError(
            f"the test set has label {largest}, but the model has {classes} classes: "
            "use a model and data of the same classes"
        )
    correct = int((logits.argmax(1) == labels).sum())
    return Metrics(correct, len(labels), metric, SCORES[metric](logits, labels))


def gradient_bytes(tuned: Tuned) -> int:
    """Count the bytes of the gradients that exist now, between backward and the update.

    Args:
        tuned: The model after `backward`.

    Returns:
        Bytes of the `.grad` of every parameter; of the stored values for sparse gradients.
    """
    parameters = [*tuned.model.parameters(), *tuned.trained()]
    return _distinct_bytes([p.grad for p in parameters if p.grad is not None])


def state_bytes(tuned: Tuned) -> int:
    """Count the bytes of the optimizer's state.

    Args:
        tuned: The model after at least one update.

    Returns:
        Bytes of all tensors in `optimizer.state`, however nested; 0 without an optimizer.
    """
    state = list(tuned.optimizer.state.values()) if tuned.optimizer else []
    return _distinct_bytes(list(tensors_in(state)))


def trainable_parameters(tuned: Tuned) -> int:
    """Count the entries that the optimizer may change.

    Args:
        tuned: The model and its optimizer.

    Returns:
        The number of entries, each parameter once.
    """
    return sum({id(p): p.numel() for p in tuned.trained()}.values())


def total_parameters(tuned: Tuned) -> int:
    """Count the entries of all parameters, adapters included.

    Args:
        tuned: The model.

    Returns:
        The number of entries, shared parameters once.
    """
    return sum(p.numel() for p in tuned.model.parameters())


def snapshot(tuned: Tuned) -> list[torch.Tensor]:
    """Copy the trained parameters to the CPU before training.

    Args:
        tuned: The model and its optimizer.

    Returns:
        Copies, in the order of `tuned.trained()`.
    """
    return [p.detach().to("cpu", copy=True) for p in tuned.trained()]


def changed_parameters(tuned: Tuned, before: list[torch.Tensor]) -> int:
    """Count the entries whose value differs from before, in any bit that compares unequal.

    Args:
        tuned: The model after training.
        before: What `snapshot` gave.

    Returns:
        The number of changed entries.
    """
    pairs = zip(tuned.trained(), before, strict=True)
    return sum(int((p.detach().cpu() != old).sum()) for p, old in pairs)


def _distinct_bytes(tensors: list[torch.Tensor]) -> int:
    """Add up storages, each once; sparse tensors count with their indices and values."""
    storages: dict[int, int] = {}
    for tensor in tensors:
        dense = (
            [tensor] if tensor.layout is torch.strided else [tensor._indices(), tensor._values()]
        )
        for part in dense:
            storage = part.untyped_storage()
            storages[storage._cdata] = storage.nbytes()
    return sum(storages.values())
