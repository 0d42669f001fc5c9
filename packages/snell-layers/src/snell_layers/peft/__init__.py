"""SNELL as a PEFT method: importing this package registers it.

`get_peft_model(model, SnellConfig(...))`, `PeftModel.from_pretrained`, merging, several adapters
and the rest are PEFT's own. A saved adapter can only be loaded after `import snell_layers.peft`.
"""

from .adapter import SnellAdapter
from .config import SnellConfig
from .layer import SnellLinearAdapter
from .model import SnellModel
from .register import register

__all__ = ["SnellAdapter", "SnellConfig", "SnellLinearAdapter", "SnellModel", "register"]

register(SnellConfig, SnellModel)
