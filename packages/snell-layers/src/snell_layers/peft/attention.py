"""The PEFT tuner layer of `nn.MultiheadAttention`: query, key, value and output projections.

Torch's module never calls its output layer and keeps the other three in one bare parameter, so
adapters of linear layers cannot reach them. This one computes the projections itself.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snell_layers.factors import SnellFactors
from snell_layers.layer import merges_with, with_updates

from .adapter import SnellAdapter
from .config import SnellConfig

__all__ = ["SnellAttentionAdapter"]

_IN, _OUT = "in_proj", "out_proj"
# What other modules and libraries read of an attention that they hold.
_READ = {"embed_dim", "num_heads", "head_dim", "batch_first", "dropout", "kdim", "vdim", "out_proj"}
_READ |= {"in_proj_weight", "in_proj_bias", "bias_k", "bias_v", "add_zero_attn", "merge_masks"}
_READ |= {"_qkv_same_embed_dim"}


class SnellAttentionAdapter(SnellAdapter):
    r"""$\mathrm{out}(\mathrm{softmax}(QK^\top / \sqrt{d/h} + M)\,V)$ with four adapted projections.

    Three updates for the rows of `in_proj_weight` and one for `out_proj.weight`; patterns find them
    as `<module>.in_proj` and `<module>.out_proj`. Arguments and results are those of
    `nn.MultiheadAttention`.
    """

    @classmethod
    def problem(cls, base: Any) -> str | None:
        """Which feature of the attention is missing here; `None` if all is there."""
        if base.in_proj_weight is None:
            return f"has kdim={base.kdim} and vdim={base.vdim} beside embed_dim={base.embed_dim}"
        if base.bias_k is not None or base.add_zero_attn:
            return "adds keys and values of its own (add_bias_kv or add_zero_attn)"
        return None

    @classmethod
    def shapes(cls, base: Any, module_name: str) -> dict[str, tuple[int, int]]:
        """Of the packed projection and of the output projection."""
        return {
            f"{module_name}.{_IN}": tuple(base.in_proj_weight.shape),
            f"{module_name}.{_OUT}": (base.out_proj.out_features, base.out_proj.in_features),
        }

    @classmethod
    def pieces(cls, config: SnellConfig, module_name: str) -> int:
        """Query, key and value are three updates."""
        return 3 if module_name.endswith(_IN) else 1

    @property
    def weight(self) -> Tensor:
        """The packed weight, which stands for the module's type and device."""
        return self.get_base_layer().in_proj_weight

    def adapted_weights(self) -> list[Tensor]:
        """The packed weight and the output's."""
        base = self.get_base_layer()
        return [base.in_proj_weight, base.out_proj.weight]

    def get_delta_weights(self, adapter_name: str) -> list[Tensor]:
        """The updates of both weights, detached."""
        both = cast(nn.ModuleDict, self.snell_factors[adapter_name])
        return [cast(SnellFactors, both[name]).delta() for name in (_IN, _OUT)]

    def get_delta_weight(self, adapter_name: str) -> Tensor:
        """The update of the packed weight; `get_delta_weights` has the output's too."""
        return self.get_delta_weights(adapter_name)[0]

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
        """As `nn.MultiheadAttention.forward`, which runs where no adapter is active."""
        base = self.base_layer
        active = cast(list[nn.ModuleDict], self.active_factors())
        if not active:
            return base(
                query,
                key,
                value,
                key_padding_mask=key_padding_mask,
                need_weights=need_weights,
                attn_mask=attn_mask,
                average_attn_weights=average_attn_weights,
                is_causal=is_causal,
            )
        self._check_call(query, attn_mask, is_causal)
        q, k, v = self._project(query, key, value, active)
        mask = _joint_mask(attn_mask, key_padding_mask, q)
        dropout = self.base_layer.dropout if self.training else 0.0
        if need_weights:
            heads, weights = _attend(q, k, v, mask, dropout)
        else:
            heads, weights = F.scaled_dot_product_attention(q, k, v, mask, dropout), None
        y = self._product(heads.transpose(1, 2).flatten(2), _OUT, active)
        return self._as_the_base_returns(y, weights, query, average_attn_weights)

    def _project(
        self, query: Tensor, key: Tensor, value: Tensor, active: list[nn.ModuleDict]
    ) -> list[Tensor]:
        """Query, key and value, each `(batch, heads, tokens, width / heads)`; one GEMM if equal."""
        inputs = [self._batch_first(x) for x in (query, key, value)]
        if query is key and key is value:
            parts = self._product(inputs[0], _IN, active).chunk(3, -1)
        elif key is value:
            _, k, v = self._product(inputs[1], _IN, active).chunk(3, -1)
            parts = (self._product(inputs[0], _IN, active).chunk(3, -1)[0], k, v)
        else:
            parts = [
                self._product(x, _IN, active).chunk(3, -1)[piece] for piece, x in enumerate(inputs)
            ]
        heads = self.base_layer.num_heads
        return [part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in parts]

    def _product(self, x: Tensor, name: str, active: list[nn.ModuleDict]) -> Tensor:
        """One adapted projection of `(batch, tokens, width)`."""
        base = self.base_layer
        weight, bias = (
            (base.in_proj_weight, base.in_proj_bias)
            if name == _IN
            else (base.out_proj.weight, base.out_proj.bias)
        )
        return with_updates(
            x,
            [cast(SnellFactors, both[name]) for both in active],
            weight if merges_with(weight, x) else None,
            bias,
            lambda: F.linear(x, weight, bias),
        )

    def _batch_first(self, x: Tensor) -> Tensor:
        """`(batch, tokens, width)`, whatever the caller's layout."""
        if x.dim() == 2:
            return x.unsqueeze(0)
        return x if self.base_layer.batch_first else x.transpose(0, 1)

    def _as_the_base_returns(
        self, y: Tensor, weights: Tensor | None, query: Tensor, average: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Output and weights in the caller's layout."""
        if weights is not None and average:
            weights = weights.mean(1)
        if query.dim() == 2:
            return y.squeeze(0), None if weights is None else weights.squeeze(0)
        return y if self.base_layer.batch_first else y.transpose(0, 1), weights

    def _check_call(self, query: Tensor, attn_mask: Tensor | None, is_causal: bool) -> None:
        """Refuse what would not be computed as the base would."""
        base = self.base_layer
        if base._forward_hooks or base._forward_pre_hooks or "forward" in vars(base):
            raise ValueError(
                f"module {self.module_name!r}: its nn.MultiheadAttention has hooks, which cannot "
                "run while it is adapted: register them on the adapted module instead"
            )
        if query.is_nested:
            raise ValueError(
                f"module {self.module_name!r} got a nested tensor: build nn.TransformerEncoder "
                "with enable_nested_tensor=False"
            )
        if is_causal and attn_mask is None:
            raise ValueError(
                "is_causal is True without attn_mask, which it only describes: pass the mask too"
            )

    def _new_factors(self, config: SnellConfig, module_name: str) -> nn.Module:
        """Updates of both weights."""
        shapes = self.shapes(self.get_base_layer(), module_name)
        made = {name: self._factors_of(shape, config, name) for name, shape in shapes.items()}
        return nn.ModuleDict({name.rpartition(".")[2]: factors for name, factors in made.items()})

    def __getattr__(self, name: str) -> Any:
        """Attributes that belong to the attention itself."""
        if name in _READ:
            return getattr(super().__getattr__("base_layer"), name)
        return super().__getattr__(name)


def _joint_mask(mask: Tensor | None, padding: Tensor | None, q: Tensor) -> Tensor | None:
    """Both masks as one to add to scores `(batch, heads, queries, keys)`."""
    added = []
    if mask is not None:
        mask = _additive(mask, q.dtype)
        added.append(mask if mask.dim() == 2 else mask.view(*q.shape[:2], *mask.shape[1:]))
    if padding is not None:
        padding = padding if padding.dim() == 2 else padding.unsqueeze(0)
        added.append(_additive(padding, q.dtype)[:, None, None])
    return sum(added[1:], added[0]) if added else None


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Minus infinity where a boolean mask is true; other masks are added as they are."""
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, -torch.inf)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float
) -> tuple[Tensor, Tensor]:
    """Attention whose weights `(batch, heads, queries, keys)` are asked for."""
    scores = q @ k.mT / q.shape[-1] ** 0.5
    weights = (scores if mask is None else scores + mask).softmax(-1)
    weights = F.dropout(weights, dropout) if dropout else weights
    return weights @ v, weights
