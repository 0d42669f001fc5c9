"""How a dataset counts: from predictions and labels to one number."""

from collections.abc import Callable

import torch

__all__ = ["SCORES", "f1", "matthews", "mean_per_class", "pearson", "top1"]


def top1(logits: torch.Tensor, labels: torch.Tensor) -> float:
    r"""Share of right answers, $\frac1N \sum_i [\hat y_i = y_i]$.

    Args:
        logits: `(examples, classes)`.
        labels: `(examples,)`.

    Returns:
        In [0, 1].
    """
    return (logits.argmax(1) == labels).double().mean().item()


def mean_per_class(logits: torch.Tensor, labels: torch.Tensor) -> float:
    r"""Mean over classes of the share of right answers; classes without examples do not count.

    Args:
        logits: `(examples, classes)`.
        labels: `(examples,)`.

    Returns:
        In [0, 1].

    Examples:
        >>> mean_per_class(torch.tensor([[1.0, 0], [1, 0], [1, 0]]), torch.tensor([0, 0, 1]))
        0.5
    """
    right, predicted = labels.unique(), logits.argmax(1)
    shares = [(predicted[labels == c] == c).double().mean() for c in right]
    return torch.stack(shares).mean().item()


def matthews(logits: torch.Tensor, labels: torch.Tensor) -> float:
    r"""Matthews' correlation of predictions and labels, for any number of classes.

    With $C$ the table of counts, $n$ its sum, $t$ and $p$ its row and column sums:
    $$ \frac{n \operatorname{tr} C - t \cdot p}
            {\sqrt{n^2 - p \cdot p}\,\sqrt{n^2 - t \cdot t}} $$

    Args:
        logits: `(examples, classes)`.
        labels: `(examples,)`.

    Returns:
        In [-1, 1]; 0 where only one class is predicted or there.

    Examples:
        >>> matthews(torch.eye(2), torch.tensor([0, 1]))
        1.0
    """
    predicted, classes = logits.argmax(1), logits.shape[1]
    truth = torch.bincount(labels, minlength=classes).double()
    given = torch.bincount(predicted, minlength=classes).double()
    total, right = float(len(labels)), (predicted == labels).sum().double()
    spread = (total**2 - given @ given) * (total**2 - truth @ truth)
    return ((total * right - truth @ given) / spread.sqrt()).item() if spread > 0 else 0.0


def f1(logits: torch.Tensor, labels: torch.Tensor) -> float:
    r"""F1 of class 1, $2 \mathrm{TP} / (2 \mathrm{TP} + \mathrm{FP} + \mathrm{FN})$.

    Args:
        logits: `(examples, 2)`.
        labels: `(examples,)`.

    Returns:
        In [0, 1]; 0 where class 1 is neither predicted nor there.

    Examples:
        >>> round(f1(torch.tensor([[0.0, 1], [0, 1], [1, 0]]), torch.tensor([1, 0, 0])), 3)
        0.667
    """
    predicted = logits.argmax(1)
    both = int(((predicted == 1) & (labels == 1)).sum())
    some = int((predicted == 1).sum() + (labels == 1).sum())
    return 2 * both / some if some else 0.0


def pearson(logits: torch.Tensor, labels: torch.Tensor) -> float:
    r"""Pearson's correlation of the expected class $\sum_c c\,p_c$ with the label.

    Args:
        logits: `(examples, classes)`, classes in the order of what they stand for.
        labels: `(examples,)`.

    Returns:
        In [-1, 1]; 0 where one of the two does not vary.

    Examples:
        >>> round(pearson(20 * torch.eye(3), torch.tensor([0, 1, 2])), 3)
        1.0
    """
    steps = torch.arange(logits.shape[1], dtype=torch.float64)
    both = torch.stack([logits.double().softmax(1) @ steps, labels.double()])
    apart = both - both.mean(1, keepdim=True)
    size = apart.norm(dim=1).prod()
    return (apart[0] @ apart[1] / size).item() if size > 0 else 0.0


SCORES: dict[str, Callable[[torch.Tensor, torch.Tensor], float]] = {
    "top1": top1, "mean_per_class": mean_per_class, "matthews": matthews, "f1": f1,
    "pearson": pearson,
}  # fmt: skip
"""Name in the registry to the score."""
