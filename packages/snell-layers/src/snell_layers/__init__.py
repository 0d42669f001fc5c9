"""Kernelized sparse tuning layers (KLoRA, SNELL) for any torch model, and as a PEFT method.

`SnellLinear` adapts one `nn.Linear`; `snell_linear` and `snell_delta` are the arithmetic
underneath, driven by a `SnellRule`. The PEFT method is `snell_layers.peft` (extra
`snell-layers[peft]`), which is never imported from here.
"""

from .functional import snell_delta, snell_linear
from .layer import SnellLinear
from .rule import SnellRule

__all__ = ["SnellLinear", "SnellRule", "snell_delta", "snell_linear"]
