"""How each kind of layer takes part: the same class, another forward.

These classes stand in front of a module's own class (see `swap.py`), so `super()` is what the
module did before. Inside its own forward such a module takes the sampled product.
"""

from collections.abc import Container
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from so_optim.sampled.alone import alone
from so_optim.sampled.attention import recomputed_attention
from so_optim.sampled.embedding import sampled_embedding
from so_optim.sampled.heads import split_heads
from so_optim.sampled.leaf import LEAF, Leaf, widen
from so_optim.sampled.linear import sampled_linear
from so_optim.sampled.mlp import Layer
from so_optim.sampled.patches import cuts_patches, sampled_patches
from so_optim.sampled.producers import activate, norm

__all__ = ["Activation", "Gathered", "Norm", "Sampled", "layer_of", "sampled_kind", "takes_part"]


class Sampled:
    """What every sampled module has besides its own class."""

    _so_leaves: dict[str, Leaf]

    def _leaf(self, name: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weight, leaf, rows and columns, as registered now (`functional_call` swaps them)."""
        parameters: dict[str, Any] = self.__dict__["_parameters"]
        weight = parameters[name]
        return weight, parameters[name + LEAF], *self._so_leaves[name].on(weight.device)

    def _note(self, path: str, name: str = "weight") -> None:
        """Remember what was kept for backward, for `repr`."""
        if path and not torch.compiler.is_compiling():
            self._so_leaves[name].path = path

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """Save what the plain module would save: a leaf is always zero."""
        own = super()._save_to_state_dict  # type: ignore[misc]  # the module's own
        own(destination, prefix, keep_vars)
        for name, leaf in self._so_leaves.items():
            destination.pop(prefix + name + LEAF, None)
            if not keep_vars:
                tied = destination.values() if len(leaf.owners) > 1 else ()
                destination[prefix + name] = alone(destination[prefix + name], tied)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        """Load what a plain module saved."""
        parameters: dict[str, Any] = self.__dict__["_parameters"]
        leaves = {prefix + name + LEAF: parameters[name + LEAF] for name in self._so_leaves}
        own = super()._load_from_state_dict  # type: ignore[misc]  # the module's own
        own({**state_dict, **leaves}, prefix, *rest)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Move or cast the module; a leaf stays as wide as sums over tokens are."""
        super()._apply(fn, recurse)  # type: ignore[misc]  # the module's own
        for name in self._so_leaves:
            widen(self.__dict__["_parameters"][name + LEAF])
        return self


class Linear(Sampled):
    """`nn.Linear`."""

    def forward(self: Any, x: Tensor) -> Tensor:
        """Apply the layer."""
        weight, values, rows, cols = self._leaf("weight")
        y, path = sampled_linear(x, weight, self.bias, values, rows, cols)
        self._note(path)
        return y


class Conv1D(Sampled):
    """Hugging Face's `Conv1D`, a linear layer that stores its weight transposed."""

    def forward(self: Any, x: Tensor) -> Tensor:
        """Apply the layer."""
        weight, values, rows, cols = self._leaf("weight")
        y, path = sampled_linear(x, weight, self.bias, values, cols, rows, transposed=True)
        self._note(path)
        return y


class Embedding(Sampled):
    """`nn.Embedding`."""

    def forward(self: Any, tokens: Tensor) -> Tensor:
        """Look up, after rows that are too long were shortened as the plain module does."""
        self._note("its tokens")
        weight, *rest = self._leaf("weight")
        if self.max_norm is not None:
            with torch.no_grad():
                torch.embedding_renorm_(weight, tokens.contiguous(), self.max_norm, self.norm_type)
        return sampled_embedding(tokens, weight, *rest, padding_idx=self.padding_idx)


class Patches(Sampled):
    """`nn.Conv2d` over patches that do not overlap."""

    def forward(self: Any, image: Tensor) -> Tensor:
        """Convolve."""
        self._note("its image")
        weight, values, rows, cols = self._leaf("weight")
        return sampled_patches(image, weight, self.bias, values, rows, cols)


class Attention(Sampled):
    """`nn.MultiheadAttention`, whose three projections are one packed weight."""

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend to oneself; anything else goes the module's own way with gathered weights."""
        own = query is key and key is value and query.dim() == 3 and not need_weights
        fixed = key_padding_mask is None and (attn_mask is None or not attn_mask.requires_grad)
        if own and fixed and (attn_mask is not None or not is_causal):
            return self._attend(query, None if is_causal else attn_mask, is_causal), None
        rest = (key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal)
        return super().forward(query, key, value, *rest)  # type: ignore[misc]  # the module's own

    def _attend(self: Any, x: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        """Project, attend, project."""
        heads, dropout = self.num_heads, self.dropout if self.training else 0.0
        if mask is not None:
            mask = (
                torch.zeros_like(mask, dtype=x.dtype).masked_fill_(mask, -torch.inf)
                if (mask.dtype == torch.bool)
                else mask.to(x.dtype)
            )
            mask = mask.unflatten(0, (-1, heads)) if mask.dim() == 3 else mask
        rebuilds = getattr(self, "_so_recompute", False) and not torch.compiler.is_compiling()
        frozen = not self._parameters["in_proj_weight"].requires_grad
        if self.batch_first and rebuilds and frozen and not dropout:
            packed = layer_of(self, "in_proj_weight", "in_proj_bias")
            self._note("attention's input and output", "in_proj_weight")
            out = recomputed_attention(x, (packed,), heads, mask=mask, causal=causal)
            return self.out_proj(out)
        weight, values, rows, cols = self._leaf("in_proj_weight")
        qkv, path = sampled_linear(x, weight, self.in_proj_bias, values, rows, cols)
        self._note(path, "in_proj_weight")
        q, k, v = split_heads(qkv if self.batch_first else qkv.transpose(0, 1), heads)
        mask = None if mask is None else mask.to(q.dtype)
        out = F.scaled_dot_product_attention(q, k, v, mask, dropout, causal)
        out = out.permute((0, 2, 1, 3) if self.batch_first else (2, 0, 1, 3))
        return self.out_proj(out.flatten(2))


class Gathered(Sampled):
    """Any other module: whoever reads its weight gets the dense fallback."""


_WEIGHTS: dict[type, str] = {
    Gathered: "",
    Attention: "in_proj_weight",
}  # the others sample "weight"


class Norm:
    """A LayerNorm that leaves a recipe."""

    def forward(self: Any, x: Tensor) -> Tensor:
        """Normalise."""
        casts_back = type(self).__module__.startswith("open_clip.")
        return norm(x, self.weight, self.bias, self.eps, casts_back=casts_back)


class Activation:
    """An activation that leaves a recipe."""

    def forward(self: Any, x: Tensor) -> Tensor:
        """Apply it."""
        return activate(x, self._so_activation)


def layer_of(module: Any, weight: str = "weight", bias: str = "bias") -> Layer:
    """Take a linear layer apart, sampled or not.

    Args:
        module: It.
        weight: Name of its weight.
        bias: Name of its bias.

    Returns:
        Its tensors, for the functions that rebuild what they need.
    """
    if isinstance(module, Sampled) and weight in module._so_leaves:
        matrix, values, rows, cols = module._leaf(weight)
        return Layer(matrix, getattr(module, bias), values, rows, cols)
    return Layer(getattr(module, weight), getattr(module, bias), None, None, None)


def sampled_kind(module: nn.Module, names: Container[str]) -> type[Sampled]:
    """Choose how a module takes part.

    Args:
        module: A module with weights that are to be sampled.
        names: Their names in it.

    Returns:
        The class that is put in front of its own.
    """
    kind = _kind_of(module)
    return (
        kind
        if "forward" not in module.__dict__ and _WEIGHTS.get(kind, "weight") in names
        else Gathered
    )


def takes_part(kind: type, name: str) -> str:
    """Say which path a weight takes.

    Args:
        kind: What `sampled_kind` chose for its module.
        name: Its name there.

    Returns:
        Words for `repr`.
    """
    sampled = name == _WEIGHTS.get(kind, "weight")
    return f"sampled as {kind.__name__}" if sampled else "dense gradient, gathered"


def _kind_of(module: nn.Module) -> type[Sampled]:
    """How a module of this class samples its one large weight."""
    kind = type(module)
    if kind.forward is nn.Linear.forward:
        return Linear
    if isinstance(module, nn.MultiheadAttention) and kind.forward is nn.MultiheadAttention.forward:
        odd = not module._qkv_same_embed_dim or module.bias_k is not None or module.add_zero_attn
        return Gathered if odd else Attention
    if kind.__name__ == "Conv1D" and kind.__module__ == "transformers.pytorch_utils":
        return Conv1D
    if isinstance(module, nn.Embedding) and kind.forward is nn.Embedding.forward:
        odd = module.scale_grad_by_freq or module.sparse
        return Gathered if odd else Embedding
    return Patches if cuts_patches(module) and kind.forward is nn.Conv2d.forward else Gathered
