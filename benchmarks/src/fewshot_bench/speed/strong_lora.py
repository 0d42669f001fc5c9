r"""LoRA as good as it gets in plain torch: one autograd function per layer, little saved.

Stock LoRA keeps every layer's input, because the gradient of its factor needs it. Here a layer asks
where its input $x$ comes from. If a LayerNorm or an activation made it, $x = f(z)$, then $z$ is
kept for that module's own backward anyway, and $x$ is computed again from it. A transformer block
keeps 10 activations of width $d$ instead of 16. This is the fair opponent of sampled gradients.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["StrongLoraLinear", "add_strong_lora"]

ACTIVATIONS = ("GELU", "QuickGELU", "GELUActivation", "QuickGELUActivation", "GELUTanh")


class _LoraProduct(torch.autograd.Function):
    """`x Wᵀ + b + s (x Aᵀ) Bᵀ`, with gradients for x, A and B only."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor,
        scale: float, source: tuple[nn.Module, Tensor] | None,
    ) -> Tensor:  # fmt: skip
        out = F.linear(x, weight, bias)
        low = F.linear(x, a)  # (..., r)
        out.flatten(0, -2).addmm_(low.flatten(0, -2), b.mT, alpha=scale)
        maker, kept = source or (None, x)
        ctx.scale, ctx.maker = scale, maker
        ctx.save_for_backward(kept, weight, a, b, low)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        kept, weight, a, b, low = ctx.saved_tensors
        grad = grads[0].flatten(0, -2)  # (tokens, out)
        x = (kept if ctx.maker is None else ctx.maker.forward(kept)).flatten(0, -2)
        small = (grad @ b).mul_(ctx.scale)  # (tokens, r)
        grad_a = small.mT @ x
        grad_b = (grad.mT @ low.flatten(0, -2)).mul_(ctx.scale)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (grad @ weight).addmm_(small, a).view((*kept.shape[:-1], weight.shape[1]))
        return grad_x, None, None, grad_a, grad_b, None, None


class StrongLoraLinear(nn.Module):
    r"""A frozen linear layer with a trained low-rank update,

    $$y = x W^\top + b + \tfrac{\alpha}{r} (x A^\top) B^\top .$$

    Args:
        layer: The layer to adapt; its weights are taken over, frozen.
        r: Rank.
        alpha: Numerator of the scale.
    """  # noqa: D415

    def __init__(self, layer: nn.Linear, r: int = 8, alpha: float = 16.0) -> None:
        super().__init__()
        self.weight, self.bias, self.scale = layer.weight, layer.bias, alpha / r
        self.requires_grad_(False)
        outputs, inputs = layer.weight.shape
        self.lora_a = nn.Parameter(layer.weight.new_empty(r, inputs))
        self.lora_b = nn.Parameter(layer.weight.new_zeros(outputs, r))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(outputs * inputs)
            nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., inputs)` to `(..., outputs)`."""
        arguments = self.weight, self.bias, self.lora_a, self.lora_b, self.scale
        return _LoraProduct.apply(x, *arguments, getattr(x, "_made_by", None))


def add_strong_lora(
    model: nn.Module, blocks: Iterable[nn.Module], names: Iterable[str], r: int = 8
) -> None:
    """Replace linear layers by `StrongLoraLinear`, and freeze everything else.

    Args:
        model: Changed in place.
        blocks: Its transformer blocks, in which LayerNorms and activations leave word for the
            layer after them.
        names: Names of the layers to replace.
        r: Rank.
    """
    model.requires_grad_(False)
    for block in blocks:
        for module in block.modules():
            if isinstance(module, nn.LayerNorm) or type(module).__name__ in ACTIVATIONS:
                module.register_forward_hook(_leave_word)
    for name in list(names):
        layer = model.get_submodule(name)
        if isinstance(layer, nn.Linear):
            model.set_submodule(name, StrongLoraLinear(layer, r))


def _leave_word(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    """Note on an output which module made it and from what."""
    output._made_by = (module, inputs[0].detach())  # type: ignore[attr-defined]
