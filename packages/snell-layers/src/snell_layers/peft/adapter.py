"""What every adapted layer does alike: named updates, merging in float32, exact unmerging."""

import hashlib
import warnings
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from torch import Tensor, nn

from snell_layers.factors import SnellFactors
from snell_layers.layer import merged_weight

from .config import SnellConfig

__all__ = ["SnellAdapter"]


class SnellAdapter(nn.Module, BaseTunerLayer):
    """A frozen module and, for every adapter, the updates of its weights.

    Subclasses say which weights there are and what the forward of adapted weights is.

    Args:
        base_layer: The module to adapt.
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
        self.module_name = module_name
        self.snell_factors = nn.ModuleDict()
        self.merged_adapters: list[str] = []
        self._active_adapter = [adapter_name]
        self._weights_before: list[Tensor] = []
        self.update_layer(adapter_name, config, module_name)

    @classmethod
    def problem(cls, base: Any) -> str | None:
        """Why a module of the right type cannot be adapted; `None` if it can."""
        return None

    @classmethod
    def shapes(cls, base: Any, module_name: str) -> dict[str, tuple[int, int]]:
        """Rows and columns of every adapted weight, by the name that patterns know it by."""
        raise NotImplementedError

    @classmethod
    def pieces(cls, config: SnellConfig, module_name: str) -> int:
        """Row blocks with an update of their own."""
        return config.pieces(module_name)

    def adapted_weights(self) -> list[Tensor]:
        """The adapted weights of the base, in the order of `get_delta_weights`."""
        return [self.weight]

    def get_delta_weights(self, adapter_name: str) -> list[Tensor]:
        """The updates of one adapter, laid out like the base's weights, detached."""
        return [self.get_delta_weight(adapter_name)]

    def get_delta_weight(self, adapter_name: str) -> Tensor:
        """The update of one adapter, laid out like the base weight; float32 or wider, detached."""
        raise NotImplementedError

    def update_layer(self, adapter_name: str, config: SnellConfig, module_name: str) -> None:
        """Add an adapter, or replace the one of that name."""
        self.snell_factors[adapter_name] = self._new_factors(config, module_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add updates to the base's weights, in float32 or wider; the originals are kept.

        Args:
            safe_merge: Check the merged weights too, not the updates alone.
            adapter_names: Adapters to merge; the active ones if `None`.

        Raises:
            ValueError: If an update is not finite, or a weight is quantised.
        """
        for name in check_adapters_to_merge(self, adapter_names):
            if name not in self.snell_factors:
                continue
            weights, deltas = self.adapted_weights(), self.get_delta_weights(name)
            pairs = zip(weights, deltas, strict=True)
            merged = [merged_weight(weight.data, delta) for weight, delta in pairs]
            self._check_finite(name, deltas + (merged if safe_merge else []))
            if not self.merged:
                self._weights_before = [weight.data for weight in weights]
            for weight, value in zip(weights, merged, strict=True):
                weight.data = value
            self.merged_adapters.append(name)

    def unmerge(self) -> None:
        """Bring the base's weights back, bit for bit."""
        if not self._weights_before:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
            return
        for weight, before in zip(self.adapted_weights(), self._weights_before, strict=True):
            weight.data = before.to(weight.device)
        self._weights_before = []
        self.merged_adapters.clear()

    def active_factors(self) -> list[nn.Module]:
        """What the active adapters have for this module; none while disabled or merged."""
        if self.disable_adapters and self.merged:
            self.unmerge()
        if self.disable_adapters or self.merged:
            return []
        return [self.snell_factors[n] for n in self.active_adapters if n in self.snell_factors]

    def _check_finite(self, adapter_name: str, values: list[Tensor]) -> None:
        """Refuse an update that would spoil the model for good."""
        factors = self.snell_factors[adapter_name].parameters()
        if not all(torch.isfinite(value).all() for value in [*factors, *values]):
            raise ValueError(
                f"module {self.module_name!r}: adapter {adapter_name!r} has values that are not "
                "finite and is not merged: load an earlier checkpoint of it, or delete_adapter"
            )

    def _new_factors(self, config: SnellConfig, module_name: str) -> nn.Module:
        """The updates of one adapter."""
        (shape,) = self.shapes(self.get_base_layer(), module_name).values()
        return self._factors_of(shape, config, module_name)

    def _factors_of(self, shape: tuple[int, int], config: SnellConfig, name: str) -> SnellFactors:
        """Factors of one weight, from its own seed."""
        weight = self.adapted_weights()[0]
        return SnellFactors(
            shape[1],
            shape[0],
            config.rule(name),
            pieces=self.pieces(config, name),
            init=config.init,
            generator=_generator(config.seed, name),
            dropout=config.dropout_of(name),
            drop_path=config.drop_path,
            device=weight.device,
            dtype=torch.float64 if weight.dtype == torch.float64 else torch.float32,
        )

    def _move_adapter_to_device_of_base_layer(
        self, adapter_name: str, device: torch.device | None = None
    ) -> None:
        """Follow the base layer's device, not its type: half precision would lose the update."""
        if adapter_name not in self.snell_factors:
            return
        factors = self.snell_factors[adapter_name]
        if not any(parameter.is_meta for parameter in factors.parameters()):
            factors.to(device or self.adapted_weights()[0].device)

    def __repr__(self) -> str:
        return "snell." + super().__repr__()


def _generator(seed: int, module_name: str) -> torch.Generator:
    """A generator for one module: another module or another seed gives other factors."""
    digest = hashlib.blake2b(f"{seed}/{module_name}".encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))
