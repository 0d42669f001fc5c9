r"""Self-attention that keeps its output and nothing of its queries, keys and values.

Backward rebuilds $q, k, v$ from the layer's input, a few samples at a time: samples never meet in
attention, and no weight gradient is dense. That costs the projection once more and saves three
widths per token, and every temporary of their size.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from so_optim.sampled.linear import lowered
from so_optim.sampled.mlp import Layer, Sums, chunks
from so_optim.sampled.rebuild import Rebuild, read, recipe_of

__all__ = ["recomputed_attention"]

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
_FLASH = 1  # torch's own number of the kernel


def recomputed_attention(
    x: Tensor,
    layers: tuple[Layer, ...],
    heads: int,
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    r"""Attend, keeping the output and (what rebuilds) the input.

    Args:
        x: Shape `(B, L, n)`.
        layers: One layer that gives q, k and v side by side, or three.
        heads: Number of heads.
        mask: Added to the scores, broadcastable to `(B, heads, L, L)` with four or two dimensions.
        causal: Whether a token sees only itself and those before it.
        scale: Of the scores; None for $1/\sqrt{d}$.

    Returns:
        The heads side by side, shape `(B, L, width)`.
    """
    recipe = recipe_of(x)
    make, tensors = (recipe.make, recipe.tensors) if recipe else (read, (x,))
    flat = [tensor for layer in layers for tensor in layer]
    settings = (heads, causal, scale, len(layers))
    out, _ = RecomputedAttention.apply(lowered(x), make, settings, mask, *flat, *tensors)
    return out


class RecomputedAttention(torch.autograd.Function):
    """`recomputed_attention` for autograd."""

    @staticmethod
    def forward(
        x: Tensor, make: Rebuild, settings: tuple[Any, ...], mask: Tensor | None, *tensors: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Attend a few samples at a time; also give the log-sum-exp, if the kernel has one."""
        heads, causal, scale, count = settings
        layers = _layers(tensors, count)
        length = x.shape[1]
        outs, sums = [], []
        with torch.autocast(x.device.type, enabled=False):
            for part in _samples(x):
                q, k, v = _project(x[part], layers, heads)
                out, lse = _attend(q, k, v, _of(mask, part, x.dtype), causal, scale)
                outs.append(out.transpose(1, 2).reshape(-1, length, heads * out.shape[-1]))
                sums.append(lse)
        kept = [lse for lse in sums if lse is not None]
        return torch.cat(outs), torch.cat(kept) if len(kept) == len(sums) else None

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        """Keep the output and what the input is rebuilt from."""
        x, ctx.make, ctx.settings, mask, *tensors = inputs
        out, lse = output
        ctx.save_for_backward(mask, out, lse, *tensors)
        if lse is not None:
            ctx.mark_non_differentiable(lse)
        ctx.set_materialize_grads(False)
        ctx.shape = x.shape

    @staticmethod
    @torch.autograd.function.once_differentiable
    # pyrefly: ignore[bad-override]
    def backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Any, ...]:
        """Rebuild q, k and v of a few samples, go back through them, and add up."""
        if grad is None:  # nothing depends on the output
            return (None,) * len(ctx.needs_input_grad)
        mask, out, lse, *tensors = ctx.saved_tensors
        heads, causal, scale, count = ctx.settings
        layers, kept = _layers(tensors, count), tuple(tensors[5 * count :])
        needs = ctx.needs_input_grad
        sums = [Sums(layer, needs[4 + 5 * i : 9 + 5 * i]) for i, layer in enumerate(layers)]
        d_x = grad.new_empty(ctx.shape) if needs[0] else None
        length = ctx.shape[1]
        with torch.autocast(grad.device.type, enabled=False):
            for part in _samples(grad):
                tokens = slice(part.start * length, part.stop * length)
                x = ctx.make(kept, tokens, None).to(grad.dtype)
                q, k, v = _project(x.view(-1, *ctx.shape[1:]), layers, heads)
                saved = (out[part], None if lse is None else lse[part])
                own_mask = _of(mask, part, grad.dtype)
                d_qkv = _back(grad[part], (q, k, v), saved, own_mask, causal, scale)
                for total, layer_grad in zip(sums, _side_by_side(d_qkv, count), strict=True):
                    total.add(layer_grad, read, (x,))
                if d_x is not None:
                    d_x[part] = _back_project(_side_by_side(d_qkv, count), layers, ctx.shape[1:])
        leaves = [gradient for total in sums for gradient in total.grads()]
        return d_x, None, None, None, *leaves, *(None,) * len(kept)


def _layers(tensors: Any, count: int) -> list[Layer]:
    """The projections, five tensors each."""
    return [Layer(*tensors[5 * i : 5 * i + 5]) for i in range(count)]


def _samples(x: Tensor) -> list[slice]:
    """Samples that go together."""
    samples, length = x.shape[:2]
    if not samples:
        return [slice(0, 0)]
    size = max(1, chunks(x.flatten(0, 1), length)[0].stop // length)
    return [slice(start, min(start + size, samples)) for start in range(0, samples, size)]


def _of(mask: Tensor | None, part: slice, dtype: torch.dtype) -> Tensor | None:
    """The masks of some samples, where each has its own, as the kernel wants them."""
    if mask is None:
        return None
    return (mask[part] if mask.dim() == 4 and len(mask) > 1 else mask).to(dtype)


def _project(x: Tensor, layers: list[Layer], heads: int) -> tuple[Tensor, ...]:
    """Queries, keys and values, each of shape `(B, heads, L, d)`."""
    parts = [layer.apply(x) for layer in layers]
    if len(parts) == 1:
        return parts[0].unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4).unbind()
    return tuple(part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in parts)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float | None
) -> tuple[Tensor, Tensor | None]:
    """Attention, by the kernel whose backward can be called by itself if there is one."""
    if q.device.type == "cpu" and torch._fused_sdp_choice(q, k, v, mask, 0.0, causal) == _FLASH:
        return _flash(q, k, v, 0.0, causal, attn_mask=mask, scale=scale)
    return F.scaled_dot_product_attention(q, k, v, mask, 0.0, causal, scale=scale), None


def _back(
    grad: Tensor,
    qkv: tuple[Tensor, ...],
    saved: tuple[Tensor, Tensor | None],
    mask: Tensor | None,
    causal: bool,
    scale: float | None,
) -> tuple[Tensor, ...]:
    """Gradients of q, k and v, each of shape `(B, heads, L, d)`."""
    out, lse = saved
    heads = qkv[0].shape[1]
    d_out = grad.unflatten(-1, (heads, -1)).transpose(1, 2)
    if lse is not None:
        out = out.unflatten(-1, (heads, -1)).transpose(1, 2)
        return _flash_backward(d_out, *qkv, out, lse, 0.0, causal, attn_mask=mask, scale=scale)
    with torch.enable_grad():
        q, k, v = (each.detach().requires_grad_() for each in qkv)
        again = F.scaled_dot_product_attention(q, k, v, mask, 0.0, causal, scale=scale)
    return torch.autograd.grad(again, (q, k, v), d_out)


def _side_by_side(d_qkv: tuple[Tensor, ...], count: int) -> list[Tensor]:
    """Gradient of each projection's output, shape `(tokens, width)`."""
    flat = [each.transpose(1, 2).flatten(2).flatten(0, 1) for each in d_qkv]
    return [torch.cat(flat, 1)] if count == 1 else flat


def _back_project(grads: list[Tensor], layers: list[Layer], shape: tuple[int, ...]) -> Tensor:
    """Gradient of the input, shape `(B, *shape)`."""
    pairs = zip(grads, layers, strict=True)
    total = sum(grad @ layer.weight.to(grad.dtype) for grad, layer in pairs)
    return torch.as_tensor(total).view(-1, *shape)
