r"""A linear layer whose weight is frozen and whose gradient exists at the support alone.

Forward is $y = x W^\top + b$. Backward gives $\mathrm{d}x = \mathrm{d}y\, W$ to the input and the
$k$ values $(\mathrm{d}y^\top x)_S$ to a compact leaf of $k$ zeros: mathematically the layer's
weight is $W + \mathrm{scatter}_S(\text{leaf})$. Autograd, clipping, GradScaler, accumulation and
data-parallel reduction see a small dense parameter and need to know nothing.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from so_optim.kernels import runs_on
from so_optim.sampled.gathered import samples
from so_optim.sampled.kernel import kernel_product
from so_optim.sampled.rebuild import Rebuild, kept_input, read
from so_optim.sampled.sddmm import DENSE_ABOVE, accumulator, sampled_product

__all__ = ["at_support", "lowered", "sampled_linear"]


def sampled_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    values: Tensor,
    rows: Tensor,
    cols: Tensor,
    *,
    transposed: bool = False,
) -> tuple[Tensor, str]:
    r"""Apply a linear layer whose weight gradient is computed at the support.

    Args:
        x: Shape `(..., n)`.
        weight: $W$, frozen: shape `(m, n)`, or `(n, m)` if `transposed`.
        bias: Shape `(m,)` or None.
        values: The compact leaf, shape `(k,)`, zeros.
        rows: Output feature of each entry, shape `(k,)`, in ascending order unless `transposed`.
        cols: Input feature of each entry, shape `(k,)`.
        transposed: For Hugging Face's `Conv1D`, which stores $W^\top$.

    Returns:
        $y$, shape `(..., m)`, and what is kept for backward, in words.

    Examples:
        >>> W, leaf = torch.randn(3, 4), torch.zeros(2, requires_grad=True)
        >>> rows, cols = torch.tensor([0, 2]), torch.tensor([3, 1])
        >>> y, _ = sampled_linear(torch.ones(5, 4), W, None, leaf, rows, cols)
        >>> y.sum().backward()
        >>> leaf.grad
        tensor([5., 5.])
    """
    if not samples(weight, values):
        return F.linear(x, weight.t() if transposed else weight, bias), ""
    if x.dim() == 1:
        rest = (weight, bias, values, rows, cols)
        y, name = sampled_linear(x[None], *rest, transposed=transposed)
        return y[0], name
    kept = kept_input(x, cols)
    matrix, x = weight.t() if transposed else weight, lowered(x)
    # A compiler refuses a tensor that is passed twice, so none means the input itself.
    source = () if kept.tensors[0] is x else kept.tensors
    y = SampledLinear.apply(x, matrix, bias, values, rows, cols, kept.make, kept.whole, *source)
    return y, kept.name


def lowered(x: Tensor) -> Tensor:
    """Cast a layer's input as autocast would.

    Weights are not cast here but where they are multiplied: autocast would keep the copy.

    Args:
        x: A layer's input.

    Returns:
        The same, in autocast's dtype if autocast is on.
    """
    device = x.device.type
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x


def at_support(
    grad: Tensor,
    make: Rebuild,
    tensors: tuple[Tensor, ...],
    rows: Tensor,
    cols: Tensor,
    *,
    whole_width: int | None,
) -> Tensor:
    """Weight gradient at the support, by whichever product is cheaper.

    Args:
        grad: Of the layer's output, shape `(N, m)`.
        make: Rebuilds the layer's input, shape `(N, n)`, from `tensors`.
        tensors: What the layer saved.
        rows: Shape `(k,)`.
        cols: Shape `(k,)`.
        whole_width: $n$, or None if only the needed columns were saved.

    Returns:
        Shape `(k,)`, fp32 or wider.
    """
    n = whole_width
    if n is not None and len(rows) > DENSE_ABOVE * grad.shape[1] * n:
        x = make(tensors, slice(0, len(grad)), None).to(grad.dtype)
        return (grad.t() @ x).flatten()[rows * n + cols].to(accumulator(grad.dtype))
    if not torch.compiler.is_compiling() and runs_on(grad.device):
        return kernel_product(grad, make, tensors, rows, cols)
    return sampled_product(grad, lambda part, j: make(tensors, part, j), rows, cols)


class SampledLinear(torch.autograd.Function):
    """`sampled_linear` for autograd."""

    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        values: Tensor,
        rows: Tensor,
        cols: Tensor,
        make: Rebuild,
        whole: bool,
        *tensors: Tensor,
    ) -> Tensor:
        """Apply the layer."""
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the weight, the support and what the input is rebuilt from."""
        x, weight, bias, values, rows, cols, make, whole, *tensors = inputs
        ctx.save_for_backward(weight, rows, cols, *(tensors or [x]))
        ctx.make, ctx.whole, ctx.shape = make, whole, x.shape
        ctx.dtypes = (None if bias is None else bias.dtype, values.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    # pyrefly: ignore[bad-override]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the input, the bias and the leaf."""
        weight, rows, cols, *tensors = ctx.saved_tensors
        needs_x, _, needs_bias, needs_values = ctx.needs_input_grad[:4]
        bias_dtype, dtype = ctx.dtypes
        grad = grad.flatten(0, -2)
        x = bias = values = None
        with torch.autocast(grad.device.type, enabled=False):
            if needs_x:
                x = (grad @ weight.to(grad.dtype)).view(ctx.shape)
            if needs_bias:
                bias = grad.sum(0, dtype=bias_dtype)
            if needs_values:
                if ctx.make is read:  # one copy, not one per chunk, if it is no view
                    tensors = [tensors[0].flatten(0, -2)]
                width = ctx.shape[-1] if ctx.whole else None
                values = at_support(
                    grad, ctx.make, tuple(tensors), rows, cols, whole_width=width
                ).to(dtype)
        return x, None, bias, values, *(None,) * (len(ctx.needs_input_grad) - 4)
