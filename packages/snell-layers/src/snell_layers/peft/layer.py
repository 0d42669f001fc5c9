"""The PEFT tuner layer of a frozen `nn.Linear` or `Conv1D`, with one update per adapter."""

from typing import Any, cast

from torch import Tensor
from transformers.pytorch_utils import Conv1D

from snell_layers.factors import SnellFactors
from snell_layers.layer import adapted_linear

from .adapter import SnellAdapter

__all__ = ["SnellLinearAdapter"]


class SnellLinearAdapter(SnellAdapter):
    r"""$y = x\,(W + \sum_{adapters} \Delta W)^\top + b$ for the active adapters.

    The base layer is an `nn.Linear`, a quantised one included, or a transformers `Conv1D`.
    """

    @classmethod
    def shapes(cls, base: Any, module_name: str) -> dict[str, tuple[int, int]]:
        """Outputs and inputs; a quantised layer packs its weight, so the layer itself is asked."""
        if isinstance(base, Conv1D):
            return {module_name: (base.weight.shape[1], base.weight.shape[0])}
        return {module_name: (base.out_features, base.in_features)}

    @property
    def transposed(self) -> bool:
        """Whether the base stores its weight `(in_features, out_features)`."""
        return isinstance(self.get_base_layer(), Conv1D)

    def forward(self, x: Tensor) -> Tensor:
        """Output of the base layer with the active adapters."""
        active = cast(list[SnellFactors], self.active_factors())
        if not active:
            return self.base_layer(x)
        return adapted_linear(self.base_layer, x, active, transposed=self.transposed)

    def get_delta_weight(self, adapter_name: str) -> Tensor:
        """The update of one adapter, laid out like the base weight; float32 or wider, detached."""
        delta = cast(SnellFactors, self.snell_factors[adapter_name]).delta()
        return delta.mT if self.transposed else delta
