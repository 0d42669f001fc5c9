"""One pass over numbers on a CPU: how many magnitudes are below a bracket, and those inside."""

import torch
from torch import Tensor

from .compile import library
from .piece import TYPES, call

__all__ = ["pick_values", "runs"]


def runs(values: Tensor) -> bool:
    """Whether the compiled code can read these numbers."""
    here = type(values) is Tensor and values.device.type == "cpu"
    return here and values.dtype in TYPES and values.is_contiguous() and library() is not None


def pick_values(values: Tensor, low: Tensor, high: Tensor, room: int) -> tuple[int, Tensor | None]:
    """Count magnitudes below `low`, keep those up to `high`; `None` if there are more than `room`.

    The twin is `snell_layers.select`, which does it in torch.
    """
    kept = values.new_empty(room + 1)
    found = torch.zeros(2, dtype=torch.int64)
    ends = low.item(), high.item()
    call("values", values.dtype, values, values.numel(), *ends, kept, room, found)
    below, inside = found.tolist()
    return below, None if inside > room else kept[:inside]
