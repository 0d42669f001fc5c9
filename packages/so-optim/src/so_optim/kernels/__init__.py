"""Triton kernels, where Triton is installed: the sampled product and the packed step.

The modules of this package import Triton; nothing imports them on a machine without a GPU, except
under Triton's interpreter.
"""

import os
from functools import cache

import torch

__all__ = ["runs_on"]


@cache
def runs_on(device: torch.device) -> bool:
    """Tell whether the kernels run on a device.

    Args:
        device: Where the gradients are.

    Returns:
        True for GPUs with Triton installed, and anywhere under Triton's interpreter.

    Examples:
        >>> runs_on(torch.device("meta"))
        False
    """
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return False
    try:
        from so_optim.kernels.sddmm import available
    except ImportError:  # torch without Triton
        return False
    return available(device)
