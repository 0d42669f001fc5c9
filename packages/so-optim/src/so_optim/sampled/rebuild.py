r"""Inputs that backward can do without, because a neighbour already keeps what they are made of.

A linear layer after a LayerNorm would save the normalised tokens; but LayerNorm's own backward
keeps its input $x$ and the statistics $\mu, \sigma^{-1}$, and $\gamma (x - \mu) / \sigma + \beta$
gives the tokens back, elementwise. A layer after GELU is in the same position, and one after
attention finds its input saved by the attention kernel itself. So the sampled product needs to save
*nothing*, at any density. A producer leaves a `Recipe` on the tensor it returns; the consumer picks
it up.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = [
    *("Kept", "Rebuild", "Recipe", "Within"),
    *("kept_input", "read", "read_gathered", "recipe_of", "with_recipe"),
]

Rebuild = Callable[[tuple[Tensor, ...], slice, Tensor | None], Tensor]

# Nodes that keep their own result for backward, and views that keep pointing at it.
_KEEP_THEIR_RESULT = (
    *("ScaledDotProduct", "RecomputedAttention"),
    *("Relu", "Tanh", "Sigmoid", "Softmax"),
)
_VIEWS = (
    "ViewBackward",
    "ReshapeAlias",
    "Transpose",
    "Permute",
    "TBackward",
    "Squeeze",
    "Unsqueeze",
)


@dataclass(frozen=True)
class Recipe:
    """How to make (some columns of) a tensor again.

    Attributes:
        name: For `repr`, e.g. "LayerNorm input".
        tensors: What it is made of; a neighbour keeps these anyway.
        make: Called with `tensors`, a slice of tokens and columns or None (all of them).
    """

    name: str
    tensors: tuple[Tensor, ...]
    make: Rebuild


@dataclass(frozen=True)
class Kept:
    """What a sampled layer saves for backward, and how it reads columns from that.

    Attributes:
        name: For `repr`: what is kept.
        tensors: To be saved; of shapes `(N, ...)` where they depend on the token.
        make: As in `Recipe`.
        whole: Whether all columns can be read.
    """

    name: str
    tensors: tuple[Tensor, ...]
    make: Rebuild
    whole: bool = True


@dataclass(frozen=True)
class Within:
    """The tokens of one chunk, counted from its start.

    Attributes:
        make: Counts them from the start of the batch.
        part: The chunk.
    """

    make: Rebuild
    part: slice

    def __call__(self, tensors: tuple[Tensor, ...], sub: slice, cols: Tensor | None) -> Tensor:
        """Read some of the chunk."""
        start, stop = self.part.start + sub.start, self.part.start + sub.stop
        return self.make(tensors, slice(start, min(stop, self.part.stop)), cols)


def with_recipe(output: Tensor, recipe: Recipe) -> Tensor:
    """Leave a recipe on a tensor.

    Args:
        output: What a producer returns. Its recipe is void once it, or what it is made of, is
            changed in place.
        recipe: How to make it again.

    Returns:
        The same tensor.
    """
    # Compiled graphs choose what they keep by themselves; nobody asks without a backward pass.
    if output.requires_grad and not torch.compiler.is_compiling():
        made: Any = output
        made._so_recipe = (recipe, _versions(output, recipe))
    return output


def recipe_of(x: Tensor) -> Recipe | None:
    """Find the recipe a producer left.

    Args:
        x: A layer's input.

    Returns:
        The recipe, or None if there is none or the tensor changed since.
    """
    found: Any = None if torch.compiler.is_compiling() else getattr(x, "_so_recipe", None)
    return found[0] if found and found[1] == _versions(x, found[0]) else None


def _versions(output: Tensor, recipe: Recipe) -> list[int]:
    """How often a tensor and what it is made of were changed in place."""
    tensors = (output, *recipe.tensors)
    return [-1 if tensor.is_inference() else tensor._version for tensor in tensors]


def kept_input(x: Tensor, cols: Tensor) -> Kept:
    """Choose what a layer saves of its input, the cheapest first.

    Args:
        x: The input, shape `(..., n)`.
        cols: Columns that the support reads, shape `(k,)`.

    Returns:
        Nothing of its own where a neighbour keeps enough; else `k` columns; else all of `x`.
    """
    recipe = recipe_of(x)
    if recipe is not None:
        return Kept(f"nothing (rebuilt from the {recipe.name})", recipe.tensors, recipe.make)
    if _kept_by_producer(x):
        return Kept("nothing (its producer keeps it)", (x,), read)
    if len(cols) < x.shape[-1] and not torch.compiler.is_compiling():
        return Kept(f"{len(cols)} columns", (x.flatten(0, -2)[:, cols],), read_gathered, False)
    return Kept("its input", (x,), read)


def read(tensors: tuple[Tensor, ...], part: slice, cols: Tensor | None) -> Tensor:
    """Read columns of an input that was kept whole.

    Args:
        tensors: The input alone, shape `(..., n)`.
        part: Tokens, counted over all leading dimensions.
        cols: Columns, shape `(k,)`, or None for all.

    Returns:
        Shape `(tokens, k)`.
    """
    rows = tensors[0].flatten(0, -2)[part]
    return rows if cols is None else rows.index_select(1, cols)


def read_gathered(tensors: tuple[Tensor, ...], part: slice, cols: Tensor | None) -> Tensor:
    """Read the columns that were gathered in the forward pass.

    Args:
        tensors: The columns alone, shape `(N, k)`.
        part: Tokens.
        cols: Not needed again.

    Returns:
        Shape `(tokens, k)`.
    """
    return tensors[0][part]


def _kept_by_producer(x: Tensor) -> bool:
    """Tell whether `x` is, up to views, a result that its producer saves for its own backward."""
    if torch.compiler.is_compiling():
        return False
    node = x.grad_fn
    for _ in range(6):
        if node is None:
            return False
        name = node.name()
        if name.startswith(_KEEP_THEIR_RESULT):
            return True
        if not name.startswith(_VIEWS) or not node.next_functions:
            return False
        node = node.next_functions[0][0]
    return False
