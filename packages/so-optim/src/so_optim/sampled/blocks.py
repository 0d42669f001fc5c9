"""Which parts of a transformer block rebuild more than they must, to keep less.

Every MLP runs in token chunks. `memory="free"` keeps the input of its activation, as a frozen
network would; `"low"` keeps nothing of its hidden layer; `"minimal"` also rebuilds queries, keys
and values. The blocks of timm, open_clip and transformers are recognised by class and structure;
whatever looks different stays as it is.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from so_optim.sampled.attention import recomputed_attention
from so_optim.sampled.heads import split_heads
from so_optim.sampled.layers import Attention, Linear, Sampled, layer_of
from so_optim.sampled.mlp import chunked_mlp
from so_optim.sampled.producers import activation_of
from so_optim.sampled.swap import become

__all__ = ["MEMORY", "recompute"]

_BERT_ATTENTION = ("BertSelfAttention", "RobertaSelfAttention")

MEMORY = ("free", "low", "minimal")
"""Levels of memory, from the one that costs no time to the one that keeps least."""


class TimmMlp:
    """fc1, act, fc2."""

    def forward(self: Any, x: Tensor) -> Tensor:
        """Apply the MLP in chunks while it trains."""
        if not _may_rebuild((self.fc1, self.fc2), self.children()):
            return super().forward(x)  # type: ignore[misc]  # the block's own
        return _in_chunks(self, x, self.fc1, self.fc2)


class ClipMlp:
    """open_clip's sequence of c_fc, gelu and c_proj."""

    def forward(self: Any, x: Tensor) -> Tensor:
        """Apply the MLP in chunks while it trains."""
        if not _may_rebuild((self.c_fc, self.c_proj), self.children()):
            return super().forward(x)  # type: ignore[misc]  # the block's own
        return _in_chunks(self, x, self.c_fc, self.c_proj)


class BertFeedForward:
    """The two halves of transformers' feed-forward layer."""

    def feed_forward_chunk(self: Any, x: Tensor) -> Tensor:
        """Apply both in chunks while they train; dropout and norm follow as ever."""
        first, second = self.intermediate.dense, self.output.dense
        others = (self.intermediate, *self.intermediate.children(), self.output, second)
        if not _may_rebuild((first, second), others):
            return super().feed_forward_chunk(x)  # type: ignore[misc]  # the block's own
        y = _in_chunks(self, x, first, second)
        return self.output.LayerNorm(self.output.dropout(y) + x)


class TimmAttention:
    """One packed projection, attention, one projection."""

    def forward(
        self: Any, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Keep queries, keys and values, or rebuild them in backward."""
        dropping = self.training and self.attn_drop.p
        if attn_mask is not None or dropping:
            return super().forward(x, attn_mask, is_causal)  # type: ignore[misc]  # the block's own
        if self._so_keep_qkv or not _may_rebuild((self.qkv,), (self.qkv,)):
            q, k, v = split_heads(self.qkv(x), self.num_heads)
            out = F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
            return self.proj_drop(self.proj(out.transpose(1, 2).flatten(2)))
        _note_all("attention's input and output", self.qkv)
        out = recomputed_attention(x, (layer_of(self.qkv),), self.num_heads, causal=is_causal)
        return self.proj_drop(self.proj(out))


class BertAttention:
    """Three projections and attention."""

    def forward(
        self: Any,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Rebuild queries, keys and values in backward."""
        three = (self.query, self.key, self.value)
        odd = past_key_values is not None or self.is_causal or (self.training and self.dropout.p)
        odd = odd or (attention_mask is not None and attention_mask.requires_grad)
        if odd or self.config._attn_implementation != "sdpa" or not _may_rebuild(three, three):
            own = super().forward  # type: ignore[misc]  # the block's own
            return own(hidden_states, attention_mask, past_key_values, **kwargs)
        _note_all("attention's input and output", *three)
        layers = tuple(layer_of(each) for each in three)
        heads, mask = self.num_attention_heads, _additive(attention_mask, hidden_states)
        out = recomputed_attention(hidden_states, layers, heads, mask=mask, scale=self.scaling)
        return out, None


def _in_chunks(block: Any, x: Tensor, first: Any, second: Any) -> Tensor:
    """An MLP of two linear modules."""
    keep = block._so_keep_hidden
    _note_all("the activation's input" if keep else "the MLP's input", first, second)
    layers = (layer_of(first), block._so_activation, layer_of(second))
    return chunked_mlp(x, *layers, keep_hidden=keep)


def _note_all(path: str, *linears: Any) -> None:
    """Remember what is kept for some layers."""
    for linear in linears:
        if isinstance(linear, Sampled):
            linear._note(path)


def recompute(model: nn.Module, memory: str) -> None:
    """Make the blocks of a model rebuild what a level of memory does not keep.

    Args:
        model: Changed in place, after its layers were sampled.
        memory: One of `MEMORY`.
    """
    for module in list(model.modules()):
        if _chunk(module):
            module.__dict__["_so_keep_hidden"] = memory == "free"
        _own_attention(module, rebuild=memory == "minimal")


def _chunk(module: nn.Module) -> bool:
    """Run a block's MLP in chunks, if this is one."""
    library = type(module).__module__.partition(".")[0]
    parts: dict[str, Any] = dict(module.named_children())
    if library == "timm" and type(module).__name__ == "Mlp":
        rest = (parts["drop1"], parts["norm"], parts["drop2"])
        plain = all(isinstance(each, (nn.Identity, nn.Dropout)) for each in rest)
        return plain and _swap(module, TimmMlp, parts["fc1"], parts["act"], parts["fc2"])
    if list(parts) == ["c_fc", "gelu", "c_proj"]:
        plain = type(module).forward is nn.Sequential.forward
        return plain and _swap(module, ClipMlp, *parts.values())
    if library == "transformers" and hasattr(module, "feed_forward_chunk"):
        first, second = (dict(_children(parts.get(half))) for half in ("intermediate", "output"))
        plain = first.keys() == {"dense", "intermediate_act_fn"}
        if plain and second.keys() == {"dense", "LayerNorm", "dropout"}:
            act = first["intermediate_act_fn"]
            return _swap(module, BertFeedForward, first["dense"], act, second["dense"])
    return False


def _children(module: nn.Module | None) -> Iterable[tuple[str, nn.Module]]:
    """Named children of a module that may not exist."""
    return () if module is None else module.named_children()


def _swap(module: nn.Module, kind: type, first: Any, activation: Any, second: Any) -> bool:
    """Put the class in front, if the layers are linear and the activation is known."""
    name = activation_of(activation)
    if name is None or not _linear(first, second) or "forward" in module.__dict__:
        return False
    become(module, kind)
    module.__dict__["_so_activation"] = name
    return True


def _own_attention(module: Any, *, rebuild: bool) -> None:
    """Go back through a block's attention in our way, if this is one."""
    name, library = type(module).__name__, type(module).__module__.partition(".")[0]
    if isinstance(module, Attention):
        module.__dict__["_so_recompute"] = rebuild
    elif "forward" in module.__dict__:
        return
    elif (library, name) == ("timm", "Attention") and _linear(module.qkv) and module.fused_attn:
        extras = (module.q_norm, module.k_norm, getattr(module, "norm", nn.Identity()))
        plain = all(isinstance(extra, nn.Identity) for extra in extras)
        if plain and getattr(module, "gate", None) is None:
            become(module, TimmAttention)
            module.__dict__["_so_keep_qkv"] = not rebuild
    elif (
        rebuild
        and library == "transformers"
        and name in ("BertSelfAttention", "RobertaSelfAttention")
    ):
        plain = _linear(module.query, module.key, module.value)
        if plain:
            become(module, BertAttention)


def _linear(*modules: Any) -> bool:
    """Tell whether all are linear layers that nobody else has changed."""
    plain = (nn.Linear.forward, Linear.forward)
    return all(
        isinstance(m, nn.Linear)
        and type(m).forward in plain
        and not {"forward", "parametrizations"} & (m.__dict__.keys() | m._modules.keys())
        for m in modules
    )


def _may_rebuild(linears: Iterable[Any], passed_over: Iterable[Any]) -> bool:
    """Tell whether modules may be applied out of sight: no dense gradient, hook or dropout.

    A compiler finds what is computed twice and keeps it after all, so it gets the plain block.
    """
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return False
    weights = [linear._parameters.get("weight") for linear in linears]
    if any(weight is None or weight.requires_grad for weight in weights):
        return False
    return not any(_has_hooks(module) or _drops(module) for module in passed_over)


def _has_hooks(module: nn.Module) -> bool:
    """Tell whether somebody wants to be called with a module."""
    before_and_after = (module._forward_pre_hooks, module._forward_hooks)
    return any((*before_and_after, module._backward_pre_hooks, module._backward_hooks))


def _drops(module: nn.Module) -> bool:
    """Tell whether a module is dropout at work."""
    return isinstance(module, nn.Dropout) and module.training and module.p > 0


def _additive(mask: Tensor | None, x: Tensor) -> Tensor | None:
    """A mask that is added to the scores."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=x.dtype).masked_fill_(~mask, -torch.inf)
