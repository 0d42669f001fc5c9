"""Kernelized sparse tuning layers (KLoRA, SNELL) for any torch model, and as a PEFT method.

`SnellLinear` adapts one `nn.Linear`; `snell_linear` and `snell_delta` are the arithmetic
underneath, driven by a `SnellRule`. `SparsityAllocator` shares a budget of entries out among the
layers of a model while it trains (SNELLA). The PEFT method is `snell_layers.peft` (extra
`snell-layers[peft]`), which is never imported from here.
"""

from .allocator import SparsityAllocator
from .functional import snell_delta, snell_linear
from .layer import SnellLinear
from .rule import SnellRule

__all__ = ["SnellLinear", "SnellRule", "SparsityAllocator", "snell_delta", "snell_linear"]
