"""What turns two factors into one update: kernel, sparsifier and their numbers, checked once."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from .kernel import KERNELS, Kernel
from .sparsify import SPARSIFIERS, Sparsifier

__all__ = ["SnellRule", "check_choice"]


def check_choice(argument: str, value: str, known: Iterable[str]) -> None:
    """Raise a `ValueError` that offers the closest known name."""
    known = list(known)
    if value in known:
        return
    close = difflib.get_close_matches(str(value), known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(f"unknown {argument} {value!r}: {hint}known: {', '.join(known)}")


@dataclass(frozen=True)
class SnellRule:
    r"""The recipe of one update matrix, $\Delta W = \mathrm{sparsify}(\kappa(\text{factors}))$.

    With the default kernel and sparsifier, and $\tau$ the $\lceil s\,mn \rceil$-th smallest $|w|$,

    $$w_{ji} = 0.1\,\lVert b^1_j - a^1_i \rVert - 0.1\,\lVert b^2_j - a^2_i \rVert, \qquad
      \Delta W_{ji} = w_{ji}\,|w_{ji}|\;1[\,|w_{ji}| > \tau\,].$$

    `sparsity=0` is KLoRA, $\Delta W = w$: a different function from the limit $s \to 0$, which
    squares.

    Args:
        r: Numbers per row and per column: as many trainable numbers as LoRA of rank `r`.
        sparsity: Share of entries set to zero, in [0, 1).
        kernel: `"piecewise_linear"` (distances, two heads), `"linear"` (LoRA's product),
            `"sigmoid"`, `"rbf"` or `"mixed"` (SNELLA's: distances and a softmax over outputs); the
            equations are in `snell_layers.kernel`.
        sparsifier: `"released"` (w·|w| on survivors, the |w| held constant in the gradient),
            `"paper"` (w·max(|w|−τ, 0)), `"hard"` (w on survivors) or `"none"` (all of w; needs
            `sparsity=0`).
        heads: Chunks that each row of `r` numbers is cut into, an even number, for the kernels of
            distances.
        learn_coefficients: Whether the kernel's own scalars are trained. `None` is as published:
            held at ±0.1 for `"piecewise_linear"`, trained for `"sigmoid"`, `"rbf"` and `"mixed"`.

    Raises:
        ValueError: If an argument is outside its range, or `r` cannot be cut into `heads` chunks.

    Examples:
        >>> from snell_layers import SnellRule
        >>> SnellRule(r=8, sparsity=0.9).dims
        4
        >>> SnellRule(r=9)
        Traceback (most recent call last):
            ...
        ValueError: r=9 cannot be cut into 2 equal chunks: use a multiple of 2

    Reference:
        Expanding Sparse Tuning for Low Memory Usage, arXiv 2411.01800, equations 3 to 5, table A6;
        for the mixed kernel: Kernelized Sparse Fine-Tuning with Bi-level Parameter Competition for
        Vision Models, arXiv 2510.24037.
    """

    r: int = 8
    sparsity: float = 0.9
    kernel: str = "piecewise_linear"
    sparsifier: str = "released"
    heads: int = 2
    learn_coefficients: bool | None = None

    def __post_init__(self) -> None:
        check_choice("kernel", self.kernel, KERNELS)
        check_choice("sparsifier", self.sparsifier, SPARSIFIERS)
        if not 0 <= self.sparsity < 1:
            raise ValueError(
                f"sparsity must be at least 0 (KLoRA) and below 1, but is {self.sparsity}: "
                "it is the share of entries set to zero"
            )
        if self.sparsifier == "none" and self.sparsity > 0:
            raise ValueError(
                f"sparsifier 'none' keeps every entry, but sparsity is {self.sparsity}: "
                "set sparsity=0, or choose 'released', 'paper' or 'hard'"
            )
        if isinstance(self.r, bool) or not isinstance(self.r, int) or self.r < 2:
            raise ValueError(f"r must be a whole number of at least 2, but is {self.r}")
        if self.heads < 2 or self.heads % 2:
            raise ValueError(
                f"heads must be an even number of at least 2, but is {self.heads}: "
                "their signs alternate, so that updates start near zero"
            )
        if self.r % self.head_count:
            raise ValueError(
                f"r={self.r} cannot be cut into {self.head_count} equal chunks: "
                f"use a multiple of {self.head_count}"
            )
        if self.learn_coefficients and not self.start:
            raise ValueError(
                f"learn_coefficients is {self.learn_coefficients}, but kernel {self.kernel!r} has "
                "none: leave it out, or choose another kernel"
            )

    @property
    def head_count(self) -> int:
        """Heads that the kernel really uses: one where it takes each row whole."""
        return self.heads if self.similarity.has_heads else 1

    @property
    def dims(self) -> int:
        """Numbers per row, column and head."""
        return self.r // self.head_count

    @property
    def start(self) -> tuple[float, ...]:
        """The kernel's coefficients before training, or for good where they are held."""
        return self.similarity.start(self.head_count)

    @property
    def trained_coefficients(self) -> int:
        """How many coefficients of the kernel are trained, for each update."""
        learns = self.learn_coefficients
        return len(self.start) if (self.similarity.learns if learns is None else learns) else 0

    @property
    def gate(self) -> Sparsifier:
        """The sparsifier in use: none at sparsity 0, as in the release."""
        return SPARSIFIERS["none" if self.sparsity == 0 else self.sparsifier]

    @property
    def similarity(self) -> Kernel:
        """The kernel in use."""
        return KERNELS[self.kernel]

    @torch.no_grad()
    def matrix(self, inner: Tensor, outer: Tensor, coefficients: Tensor | None = None) -> Tensor:
        """The matrix before sparsification, `(..., m, n)`, without gradient."""
        return self.similarity.matrix(inner, outer, coefficients)
