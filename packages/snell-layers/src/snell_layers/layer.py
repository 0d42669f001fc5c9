"""A frozen `nn.Linear` with a SNELL update, without PEFT."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from .factors import SnellFactors
from .rebuild import cast
from .rule import SnellRule

__all__ = ["SnellLinear", "adapted_linear"]

# Types whose forward is known to be x W^T + b; a subclass may do more, so it keeps its own forward.
_PLAIN_LINEARS = (nn.Linear, NonDynamicallyQuantizableLinear)


def adapted_linear(
    base: Any, x: Tensor, factors: Sequence[SnellFactors], *, transposed: bool = False
) -> Tensor:
    """Output of `base` with the updates of `factors` added to its weight.

    One GEMM with the merged weight where that is exact. Where merging would lose the update
    (autocast, a half-precision or quantised weight) or skip something (forward hooks, a subclass),
    the base layer runs as it is and every update is an operand of its own.

    Args:
        base: Frozen linear layer.
        x: Input `(..., in_features)`.
        factors: Updates to apply; may be empty.
        transposed: The weight of `base` is stored `(in_features, out_features)`.
    """
    merges = merges_exactly(base, x, transposed or type(base) in _PLAIN_LINEARS)
    if not merges:  # a quantised layer may keep its weight anywhere
        return with_updates(x, factors, None, None, lambda: base(x))
    weight = base.weight.mT if transposed else base.weight
    return with_updates(x, factors, weight, base.bias, lambda: base(x))


def with_updates(
    x: Tensor,
    factors: Sequence[SnellFactors],
    weight: Tensor | None,
    bias: Tensor | None,
    run: Callable[[], Tensor],
) -> Tensor:
    """The first update merged with `weight`, or the output of `run` without one; then the others.

    Args:
        x: Input `(..., in_features)`.
        factors: Updates to apply; may be empty.
        weight: Frozen weight `(out_features, in_features)`, or `None` where merging is not exact.
        bias: `(out_features,)`, only read together with `weight`.
        run: The base layer on its own, `(..., out_features)`.
    """
    rest = list(factors)
    y = rest.pop(0)(x, weight, bias) if rest and weight is not None else run()
    for update in rest:
        y = y + update(_as_the_product_runs(x, y)).to(y.dtype)
    return y


def autocast_type(x: Tensor) -> torch.dtype | None:
    """The type that autocast gives matrix products on the device of `x`, or `None` outside it."""
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return None


def merges_exactly(base: Any, x: Tensor, plain: bool) -> bool:
    """Whether merging is `base` plus a branch, up to rounding in float32; `plain` if it may be."""
    hooked = (
        base._forward_hooks
        or base._forward_pre_hooks
        or base._backward_hooks
        or base._backward_pre_hooks
        or "forward" in vars(base)  # accelerate replaces it to move weights in time
    )
    return plain and not hooked and merges_with(base.weight, x)


def merges_with(weight: Tensor, x: Tensor) -> bool:
    """Whether an update survives being added to `weight` for a product with `x`."""
    return (
        autocast_type(x) is None
        and weight.dtype in (torch.float32, torch.float64)
        and weight.dtype == x.dtype
        and not is_traceable_wrapper_subclass(weight)  # torchao's int8 weights say float32
    )


def _as_the_product_runs(x: Tensor, y: Tensor) -> Tensor:
    """`x` in the type that the base layer computed in, as autocast would cast it."""
    return cast(x, autocast_type(x) or y.dtype)


def merged_weight(weight: Tensor, delta: Tensor) -> Tensor:
    """`weight + delta`, added in the wider of both types and only then cast to the weight's."""
    check_mergeable(weight)
    return (weight.to(delta.dtype) + delta).to(weight.dtype)


def check_mergeable(weight: Tensor) -> None:
    """Refuse a weight that cannot take an update up.

    Raises:
        ValueError: If it is quantised, or spread over processes.
    """
    if hasattr(weight, "full_tensor"):  # a DTensor of fully_shard
        raise ValueError(
            "a weight that is spread over processes cannot be merged in place: save the adapter, "
            "load it into an unsharded model and merge there"
        )
    if not weight.is_floating_point() or is_traceable_wrapper_subclass(weight):
        raise ValueError(
            f"a quantised weight ({weight.dtype}) cannot hold the update: "
            "keep the adapter unmerged, or dequantise the model before merging"
        )


class SnellLinear(nn.Module):
    r"""A frozen linear layer and a trained sparse update of its weight.

    $$y = x\,(W + \mathrm{sparsify}_\tau(\kappa(inner, outer)))^\top + b$$

    Forward is one GEMM with the merged weight; backward rebuilds the update, so nothing of the
    weight's size is kept between them. In half precision and under autocast the update is a second
    operand instead, because rounding `W + ΔW` would lose it. Save the state of an unmerged layer:
    a merged weight holds the update that the factors describe a second time.

    Args:
        base: The layer to adapt, weight `(out_features, in_features)`; its parameters are frozen.
        r: Numbers per row and per column, as many as LoRA of rank `r`.
        sparsity: Share of the update's entries set to zero, in [0, 1); 0 is KLoRA.
        kernel: `"piecewise_linear"`, `"linear"`, `"sigmoid"`, `"rbf"` or `"mixed"`; equations in
            `snell_layers.kernel`.
        sparsifier: `"released"`, `"paper"`, `"hard"`, or `"none"` with `sparsity=0`.
        heads: Chunks of `r` for the kernels of distances, an even number.
        learn_coefficients: Whether the kernel's scalars are trained; `None` is as published, see
            `SnellRule`.
        pieces: Row blocks with an update of their own; 3 for a fused qkv.
        init: `"released"` or `"zero_update"`.
        seed: Seed of the initial factors.
        dropout: Share of the update's input that is dropped in training; 0.1 in the release. Costs
            5 products a step instead of 3, and a masked copy of the input.
        drop_path: Share of samples that go without the update in training; 0.1 in the release.
            Still 3 products.

    Raises:
        ValueError: If `base` is not an `nn.Linear` or an argument is outside its range.

    Examples:
        >>> import torch
        >>> from snell_layers import SnellLinear
        >>> layer = SnellLinear(torch.nn.Linear(12, 10), r=4, sparsity=0.9)
        >>> x = torch.rand(5, 12)
        >>> y = layer(x)
        >>> layer.merge()
        >>> torch.allclose(layer(x), y, atol=1e-6)
        True

    Reference:
        Section 3 of arXiv 2411.01800; the release computes a second branch instead of merging.
    """

    def __init__(
        self,
        base: nn.Linear,
        r: int = 8,
        sparsity: float = 0.9,
        *,
        kernel: str = "piecewise_linear",
        sparsifier: str = "released",
        heads: int = 2,
        learn_coefficients: bool | None = None,
        pieces: int = 1,
        init: str = "released",
        seed: int = 0,
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if not isinstance(base, nn.Linear):
            raise ValueError(f"base must be an nn.Linear, but is {type(base).__name__}")
        self.base = base.requires_grad_(False)
        self.factors = SnellFactors(
            base.in_features,
            base.out_features,
            SnellRule(r, sparsity, kernel, sparsifier, heads, learn_coefficients),
            pieces=pieces,
            init=init,
            generator=torch.Generator().manual_seed(seed),
            dropout=dropout,
            drop_path=drop_path,
            device=base.weight.device,
            dtype=torch.float64 if base.weight.dtype == torch.float64 else torch.float32,
        )
        self._weight_before: Tensor | None = None

    @property
    def merged(self) -> bool:
        """Whether the base weight currently holds the update."""
        return self._weight_before is not None

    def forward(self, x: Tensor) -> Tensor:
        """`(..., in_features)` to `(..., out_features)`."""
        return adapted_linear(self.base, x, [] if self.merged else [self.factors])

    def delta_weight(self) -> Tensor:
        """The update `(out_features, in_features)`, without gradient."""
        return self.factors.delta()

    def merge(self) -> None:
        """Add the update to the base weight; the original is kept aside, so `unmerge` is exact."""
        if not self.merged:
            self._weight_before = self.base.weight.data
            self.base.weight.data = merged_weight(self._weight_before, self.delta_weight())

    def unmerge(self) -> None:
        """Bring the base weight back, bit for bit."""
        if self._weight_before is not None:
            self.base.weight.data = self._weight_before.to(self.base.weight.device)
            self._weight_before = None
