"""`nn.MultiheadAttention` with its packed projection taken apart into linear layers.

Torch's module keeps query, key and value in one bare parameter and never calls its output layer,
so adapters that wrap linear layers find nothing there or, worse, train nothing. This one computes
the same function with four `nn.Linear`.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

PARTS = ("q_proj", "k_proj", "v_proj")


class SplitAttention(nn.Module):
    r"""The function of a `nn.MultiheadAttention`, with separate input projections.

    $$\mathrm{out}\left(\mathrm{softmax}\left(\tfrac{QK^\top}{\sqrt{d/h}} + M\right) V\right)$$

    Args:
        packed: The attention to take apart: batch first, one width for query, key and value, no
            dropout, no extra key or value. Its weights are copied, with dtype, device and
            `requires_grad`.

    Raises:
        ValueError: The attention uses a feature that this module does not have.

    Examples:
        >>> packed = nn.MultiheadAttention(96, 3, batch_first=True)
        >>> x = torch.randn(2, 5, 96)
        >>> torch.allclose(SplitAttention(packed)(x, x, x)[0], packed(x, x, x)[0], atol=1e-6)
        True
    """

    def __init__(self, packed: nn.MultiheadAttention) -> None:
        super().__init__()
        _check_supported(packed)
        self.num_heads = packed.num_heads
        weight, bias = packed.in_proj_weight, packed.in_proj_bias
        biases = (None,) * 3 if bias is None else bias.chunk(3)
        parts = zip(PARTS, weight.chunk(3), biases, strict=True)
        for name, part_weight, part_bias in parts:
            self.add_module(name, _linear(part_weight, part_bias, like=weight))
        self.out_proj = _linear(packed.out_proj.weight, packed.out_proj.bias, like=weight)

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        need_weights: bool = False,
        attn_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, None]:
        """Attend from `query` to `key` and `value`.

        Args:
            query: `(batch, queries, width)`.
            key: `(batch, keys, width)`.
            value: `(batch, keys, width)`.
            need_weights: Must be false; there for the caller that says so.
            attn_mask: Added to the scores, `(queries, keys)`; minus infinity forbids.

        Returns:
            The output `(batch, queries, width)` and, in the place of the weights, None.

        Raises:
            ValueError: `need_weights` is true.
        """
        if need_weights:
            raise ValueError("need_weights=True is not supported: SplitAttention has no weights")
        q, k, v = (
            layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for layer, x in zip(self._projections(), (query, key, value), strict=True)
        )  # each (batch, heads, tokens, width / heads)
        heads = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        return self.out_proj(heads.transpose(1, 2).flatten(2)), None

    def _projections(self) -> list[nn.Module]:
        """The three input layers, which an adapter may have replaced."""
        return [self.get_submodule(name) for name in PARTS]


def split_attention(root: nn.Module) -> None:
    """Replace every `nn.MultiheadAttention` below `root` by its `SplitAttention`.

    Args:
        root: A module, changed in place.

    Examples:
        >>> layer = nn.TransformerEncoderLayer(96, 3, dropout=0.0, batch_first=True)
        >>> split_attention(layer)
        >>> type(layer.self_attn).__name__
        'SplitAttention'
    """
    for parent in list(root.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.MultiheadAttention):
                setattr(parent, name, SplitAttention(child).train(child.training))


class SplitQkv(nn.Module):
    r"""One linear layer to query, key and value as three, their outputs side by side.

    $$x \mapsto \left[\, W_q x + b_q,\; W_k x + b_k,\; W_v x + b_v \,\right]$$

    Args:
        packed: The layer to take apart, `(…, width)` to `(…, 3 · width)`. Its weights are copied,
            with dtype, device and `requires_grad`.

    Examples:
        >>> packed, x = nn.Linear(6, 18), torch.randn(2, 6)
        >>> torch.allclose(SplitQkv(packed)(x), packed(x), atol=1e-6)
        True
    """

    def __init__(self, packed: nn.Linear) -> None:
        super().__init__()
        biases = (None,) * 3 if packed.bias is None else packed.bias.chunk(3)
        for name, weight, bias in zip(PARTS, packed.weight.chunk(3), biases, strict=True):
            self.add_module(name, _linear(weight, bias, like=packed.weight))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From `(…, width)` to `(…, 3 · width)`."""
        return torch.cat([self.get_submodule(name)(x) for name in PARTS], dim=-1)


def split_qkv(root: nn.Module) -> None:
    """Replace every linear layer called `qkv` below `root` by its `SplitQkv`.

    Args:
        root: A module, changed in place.

    Examples:
        >>> attention = nn.Module()
        >>> attention.qkv = nn.Linear(6, 18)
        >>> split_qkv(attention)
        >>> type(attention.qkv).__name__
        'SplitQkv'
    """
    for parent in list(root.modules()):
        if isinstance(packed := getattr(parent, "qkv", None), nn.Linear):
            parent.add_module("qkv", SplitQkv(packed).train(packed.training))


def join_split_keys(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Name the weights of split attentions as `nn.MultiheadAttention` does: the exact inverse.

    Args:
        state: Weights by name, from a model with or without split attention.

    Returns:
        A new dictionary in which `….q_proj.weight` and its two neighbours have become
        `….in_proj_weight` (`….qkv.weight` inside a `qkv`), and likewise for the biases; everything
        else is the same.

    Examples:
        >>> parts = {f"attn.{part}.bias": torch.ones(2) for part in PARTS}
        >>> {name: tuple(t.shape) for name, t in join_split_keys(parts).items()}
        {'attn.in_proj_bias': (6,)}
    """
    joined = dict(state)
    for first in [name for name in state if ".q_proj." in f".{name}"]:
        prefix, _, kind = first.rpartition("q_proj.")
        names = [f"{prefix}{part}.{kind}" for part in PARTS]
        if all(name in joined for name in names):
            packed = kind if prefix.endswith("qkv.") else f"in_proj_{kind}"
            joined[f"{prefix}{packed}"] = torch.cat([joined.pop(name) for name in names])
    return joined


def _linear(weight: torch.Tensor, bias: torch.Tensor | None, like: torch.Tensor) -> nn.Linear:
    """A linear layer with copies of these weights, trainable if the packed weight was."""
    outputs, inputs = weight.shape
    layer = nn.Linear(inputs, outputs, bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach().clone(), requires_grad=like.requires_grad)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(), requires_grad=like.requires_grad)
    return layer


def _check_supported(packed: nn.MultiheadAttention) -> None:
    """Refuse the features of torch's attention that this package's models do not use."""
    unsupported = {
        "batch_first=False": not packed.batch_first,
        "dropout": packed.dropout > 0,
        "kdim or vdim": packed.in_proj_weight is None,
        "add_bias_kv": packed.bias_k is not None,
        "add_zero_attn": packed.add_zero_attn,
    }
    for feature, used in unsupported.items():
        if used:
            raise ValueError(f"attention with {feature} cannot be split: build it without")
