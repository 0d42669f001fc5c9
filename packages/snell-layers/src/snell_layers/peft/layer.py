"""The PEFT tuner layer: a frozen linear or Conv1D with one update per adapter."""

import hashlib
import warnings
from typing import Any, cast

import torch
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from snell_layers.factors import SnellFactors
from snell_layers.layer import adapted_linear, merged_weight

from .config import SnellConfig

__all__ = ["SnellLinearAdapter", "weight_shape"]


class SnellLinearAdapter(nn.Module, BaseTunerLayer):
    r"""$y = x\,(W + \sum_{adapters} \Delta W)^\top + b$ for the active adapters.

    Args:
        base_layer: An `nn.Linear` or a transformers `Conv1D`.
        adapter_name: Name of the first adapter.
        config: Its configuration.
        module_name: Name of the module in the model: patterns match it, seeds derive from it.
    """

    adapter_layer_names = ("snell_factors",)

    def __init__(
        self, base_layer: nn.Module, adapter_name: str, config: SnellConfig, module_name: str
    ) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.transposed = isinstance(self.get_base_layer(), Conv1D)
        self.snell_factors = nn.ModuleDict()
        self.merged_adapters: list[str] = []
        self._active_adapter = [adapter_name]
        self._weight_before: Tensor | None = None
        self.update_layer(adapter_name, config, module_name)

    def update_layer(self, adapter_name: str, config: SnellConfig, module_name: str) -> None:
        """Add an adapter, or replace the one of that name."""
        rows, columns = weight_shape(self.get_base_layer())
        double = self.weight.dtype == torch.float64
        self.snell_factors[adapter_name] = SnellFactors(
            columns,
            rows,
            config.rule(module_name),
            pieces=config.pieces(module_name),
            init=config.init,
            generator=_generator(config.seed, module_name),
            dropout=config.dropout_of(module_name),
            drop_path=config.drop_path,
            device=self.weight.device,
            dtype=torch.float64 if double else torch.float32,
        )
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(self, x: Tensor) -> Tensor:
        """Output of the base layer with the active adapters."""
        if self.disable_adapters and self.merged:
            self.unmerge()
        if self.disable_adapters or self.merged:
            return self.base_layer(x)
        active = [self._factors(n) for n in self.active_adapters if n in self.snell_factors]
        return adapted_linear(self.base_layer, x, active, transposed=self.transposed)

    def get_delta_weight(self, adapter_name: str) -> Tensor:
        """The update of one adapter, laid out like the base weight; float32 or wider, detached."""
        delta = self._factors(adapter_name).delta()
        return delta.mT if self.transposed else delta

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add updates to the base weight, in float32 or wider; the original is kept for `unmerge`.

        Args:
            safe_merge: Raise a `ValueError` instead of merging values that are not finite.
            adapter_names: Adapters to merge; the active ones if `None`.
        """
        for name in check_adapters_to_merge(self, adapter_names):
            if name not in self.snell_factors:
                continue
            merged = merged_weight(self.weight.data, self.get_delta_weight(name))
            if safe_merge and not torch.isfinite(merged).all():
                raise ValueError(f"adapter {name!r} has values that are not finite: not merged")
            if not self.merged:
                self._weight_before = self.weight.data
            self.weight.data = merged
            self.merged_adapters.append(name)

    def unmerge(self) -> None:
        """Bring the base weight back, bit for bit."""
        if self._weight_before is None:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
            return
        self.weight.data = self._weight_before.to(self.weight.device)
        self._weight_before = None
        self.merged_adapters.clear()

    def _move_adapter_to_device_of_base_layer(
        self, adapter_name: str, device: torch.device | None = None
    ) -> None:
        """Follow the base layer's device, not its type: half precision would lose the update."""
        if adapter_name not in self.snell_factors:
            return
        factors = self._factors(adapter_name)
        if not factors.inner.is_meta:
            factors.to(device or self.weight.device)

    def _factors(self, adapter_name: str) -> SnellFactors:
        """The factors of one adapter."""
        return cast(SnellFactors, self.snell_factors[adapter_name])

    def __repr__(self) -> str:
        return "snell." + super().__repr__()


def weight_shape(base: Any) -> tuple[int, int]:
    """Outputs and inputs; a quantised layer packs its weight, so the layer itself is asked."""
    if isinstance(base, Conv1D):
        return base.weight.shape[1], base.weight.shape[0]
    return base.out_features, base.in_features


def _generator(seed: int, module_name: str) -> torch.Generator:
    """A generator for one module: another module or another seed gives other factors."""
    digest = hashlib.blake2b(f"{seed}/{module_name}".encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))
