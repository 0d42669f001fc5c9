"""From features to logits: a linear layer that starts at zero, or CLIP's prompts."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


def linear_head(width: int, classes: int) -> nn.Linear:
    """A linear layer whose weight and bias are zero, so that training starts undecided.

    Args:
        width: Length of a feature vector.
        classes: Number of classes.

    Returns:
        The layer, mapping `(batch, width)` to `(batch, classes)`.

    Examples:
        >>> linear_head(96, 10)(torch.randn(2, 96)).abs().max().item()
        0.0
    """
    head = nn.Linear(width, classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def class_features(prompts: torch.Tensor, classes: int) -> torch.Tensor:
    r"""One unit vector per class: the normalised mean of its normalised prompt features.

    $$t_c = \frac{\bar t_c}{\lVert \bar t_c \rVert}, \qquad
      \bar t_c = \frac{1}{T} \sum_{k=1}^{T} \frac{t_{c,k}}{\lVert t_{c,k} \rVert}$$

    Args:
        prompts: Text features, class after class with all its templates, `(classes · T, width)`.
        classes: Number of classes.

    Returns:
        Class features of length 1, `(classes, width)`.

    Examples:
        >>> class_features(torch.randn(10 * 3, 96), 10).norm(dim=-1).allclose(torch.ones(10))
        True

    Reference:
        Radford et al. 2021, section 3.1.4 (prompt ensembling in embedding space).
    """
    each = F.normalize(prompts, dim=-1).unflatten(0, (classes, -1))  # (classes, T, width)
    return F.normalize(each.mean(dim=1), dim=-1)


class ZeroShotHead(nn.Module):
    r"""CLIP's head: the scaled cosine between an image and every class.

    $$z_c = e^{s} \, \langle f, t_c \rangle$$

    It has no parameters; the class vectors come from the text tower at every call, so gradients
    reach that tower.

    Args:
        tokens: Ids of all prompts, class after class, `(classes · T, tokens)`.
        classes: Number of classes.
    """

    tokens: torch.Tensor

    def __init__(self, tokens: torch.Tensor, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.register_buffer("tokens", tokens, persistent=False)

    def forward(self, features: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Logits `(batch, classes)` of unit features `(batch, width)` and scaled class vectors."""
        return F.linear(features, weights)

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"classes={self.classes}, prompts={len(self.tokens)}"
