r"""A whole MLP, $y = W_2\,\phi(W_1 x + b_1) + b_2$, a few tokens at a time.

No weight gradient is dense, so tokens are independent of each other in backward as well as in
forward. A chunk goes through both layers while it is in the cache, and no temporary is as long as
the batch. Either the input of $\phi$ is kept, which is what a frozen network keeps, or nothing of
the hidden layer is, and backward rebuilds it for $W_1 x$ once more.
"""

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from so_optim.sampled.linear import at_support, lowered
from so_optim.sampled.producers import ACTIVATIONS, SLOPES, activation_columns
from so_optim.sampled.rebuild import Rebuild, Within, read, recipe_of
from so_optim.sampled.sddmm import accumulator

__all__ = ["Layer", "Sums", "chunked_mlp", "chunks"]

_TOKENS = {"cpu": 1600}  # at a time: a matrix product of 800 rows is 3 % slower a row
_TOKENS_ELSEWHERE = 8192


class Layer(NamedTuple):
    """One linear layer, with a compact leaf if its weight is sampled.

    Attributes:
        weight: Frozen, shape `(m, n)`.
        bias: Shape `(m,)` or None.
        values: Compact leaf, shape `(k,)`, or None.
        rows: Output feature of each entry, shape `(k,)`, or None.
        cols: Input feature of each entry, shape `(k,)`, or None.
    """

    weight: Tensor
    bias: Tensor | None
    values: Tensor | None
    rows: Tensor | None
    cols: Tensor | None

    def apply(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Return `x` through the layer, in the dtype of `x`; into `out` if it is given."""
        weight = self.weight.to(x.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if out is None:
            return F.linear(x, weight, bias)
        if bias is None:
            return torch.mm(x, weight.t(), out=out)
        return torch.addmm(bias, x, weight.t(), out=out)


def chunked_mlp(
    x: Tensor, first: Layer, activation: str, second: Layer, *, keep_hidden: bool
) -> Tensor:
    """Apply an MLP, keeping its input (or what that is rebuilt from), and the hidden layer or not.

    Args:
        x: Shape `(..., n)`.
        first: The layer into the hidden space.
        activation: Key of `ACTIVATIONS`.
        second: The layer out of it.
        keep_hidden: Keep the activation's input, or rebuild it in backward.

    Returns:
        Shape `(..., m)`.
    """
    if x.dim() == 1:
        return chunked_mlp(x[None], first, activation, second, keep_hidden=keep_hidden)[0]
    recipe = recipe_of(x)
    make, tensors = (recipe.make, recipe.tensors) if recipe else (read, (x,))
    settings = (activation, make, keep_hidden)
    y, _ = ChunkedMLP.apply(lowered(x), settings, *first, *second, *tensors)
    return y


class ChunkedMLP(torch.autograd.Function):
    """`chunked_mlp` for autograd."""

    @staticmethod
    def forward(x: Tensor, settings: Any, *tensors: Any) -> tuple[Tensor, Tensor | None]:
        """Apply both layers, chunk by chunk; also give the hidden layer if it is to be kept."""
        activation, _, keep_hidden = settings
        first, second = Layer(*tensors[:5]), Layer(*tensors[5:10])
        flat = x.flatten(0, -2)
        y = flat.new_empty(len(flat), len(second.weight))
        kept = flat.new_empty(len(flat), len(first.weight)) if keep_hidden else None
        with torch.autocast(x.device.type, enabled=False):
            for part in chunks(flat):
                hidden = first.apply(flat[part], None if kept is None else kept[part])
                second.apply(ACTIVATIONS[activation](hidden), y[part])
        return y.view(*x.shape[:-1], -1), kept

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        """Keep the layers and what the input is rebuilt from."""
        x, ctx.settings, *tensors = inputs
        hidden = output[1]
        if hidden is not None:
            ctx.mark_non_differentiable(hidden)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(hidden, *tensors)
        ctx.shape = x.shape

    @staticmethod
    @torch.autograd.function.once_differentiable
    # pyrefly: ignore[bad-override]
    def backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Any, ...]:
        """Go back through both layers chunk by chunk, and add up what each chunk gives."""
        if grad is None:  # nothing depends on the output
            return (None,) * len(ctx.needs_input_grad)
        hidden, *tensors = ctx.saved_tensors
        activation, make, _ = ctx.settings
        first, second, kept = Layer(*tensors[:5]), Layer(*tensors[5:10]), tuple(tensors[10:])
        needs = ctx.needs_input_grad
        sums_1, sums_2 = Sums(first, needs[2:7]), Sums(second, needs[7:12])
        grad = grad.flatten(0, -2)
        d_x = grad.new_empty(len(grad), first.weight.shape[1]) if needs[0] else None
        with torch.autocast(grad.device.type, enabled=False):
            for part in chunks(grad):
                dy, x = grad[part], Within(make, part)
                if hidden is None:
                    whole = x(kept, slice(0, len(dy)), None).to(grad.dtype)
                    x, source, h = read, (whole,), first.apply(whole)
                else:
                    source, h = kept, hidden[part]
                d_h = SLOPES[activation](dy @ second.weight.to(grad.dtype), h)
                sums_2.add(dy, partial(activation_columns, name=activation), (h,))
                sums_1.add(d_h, x, source)
                if d_x is not None:
                    torch.mm(d_h, first.weight.to(grad.dtype), out=d_x[part])
        d_x = None if d_x is None else d_x.view(ctx.shape)
        return d_x, None, *sums_1.grads(), *sums_2.grads(), *(None,) * len(kept)


class Sums:
    """Gradients of one layer's bias and leaf, added up over chunks of tokens.

    Args:
        layer: The layer.
        needs: Which of its five tensors need a gradient.
    """

    def __init__(self, layer: Layer, needs: tuple[bool, ...]) -> None:
        self.layer, self.needs = layer, needs
        self.bias: Tensor | None = None
        self.values: Tensor | None = None

    def add(self, grad: Tensor, make: Rebuild, tensors: tuple[Tensor, ...]) -> None:
        """Add a chunk, from the gradient of the layer's output and what makes its input."""
        layer = self.layer
        if self.needs[1]:
            bias = grad.sum(0, dtype=accumulator(grad.dtype))
            self.bias = bias if self.bias is None else self.bias.add_(bias)
        if self.needs[2] and layer.rows is not None and layer.cols is not None:
            width, at = layer.weight.shape[1], (layer.rows, layer.cols)
            values = at_support(grad, make, tensors, *at, whole_width=width)
            self.values = values if self.values is None else self.values.add_(values)

    def grads(self) -> tuple[Tensor | None, ...]:
        """Gradients of weight, bias, leaf, rows and columns."""
        sums = (self.bias, self.values)
        both = zip(sums, (self.layer.bias, self.layer.values), self.needs[1:3], strict=True)
        bias, values = (_total(total, leaf) if need else None for total, leaf, need in both)
        return None, bias, values, None, None


def _total(total: Tensor | None, leaf: Tensor | None) -> Tensor | None:
    """A sum over chunks in its leaf's dtype; zeros if the batch was empty."""
    if total is None or leaf is None:
        return None if leaf is None else torch.zeros_like(leaf)
    return total.to(leaf.dtype)


def chunks(flat: Tensor, unit: int = 1) -> list[slice]:
    """Cut tokens into chunks.

    Args:
        flat: Tokens first, shape `(N, ...)`.
        unit: Tokens that must stay together, e.g. those of one image.

    Returns:
        Slices of tokens.
    """
    target = _TOKENS.get(flat.device.type, _TOKENS_ELSEWHERE)
    count = max(1, round(len(flat) / target))  # of almost equal chunks: a short one is slow
    size = max(1, -(-len(flat) // (count * unit))) * unit
    return [slice(start, min(start + size, len(flat))) for start in range(0, len(flat), size)]
