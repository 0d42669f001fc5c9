"""Give a piece of a long vector to those who think in storages.

Sampled weights lie side by side in one storage. For safetensors, accelerate and `torch.save`, what
shares a storage is one tensor under several names: they keep one of them, or write the whole
storage for each. So a state dict holds the same memory as a storage of its own.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

__all__ = ["alone"]

_EXCHANGED = ("cpu", "cuda")


def alone(tensor: Tensor, others: Iterable[Any] = ()) -> Tensor:
    """Return the same memory as a storage that begins and ends with the tensor.

    Args:
        tensor: Any tensor; one that has its storage to itself is returned as it is.
        others: What was returned for the same memory before is found here, and returned again.

    Returns:
        Same values, shape and strides; writing to either writes to both.

    Examples:
        >>> flat = torch.zeros(10)
        >>> alone(flat[2:5]).fill_(1.0).untyped_storage().nbytes()
        12
        >>> flat.sum()
        tensor(3.)
    """
    plain = type(tensor) is Tensor and tensor.device.type in _EXCHANGED
    if not plain or tensor.untyped_storage().nbytes() == tensor.nbytes:
        return tensor
    place = (tensor.data_ptr(), tensor.nbytes)
    for other in others:
        if type(other) is Tensor and (other.data_ptr(), other.untyped_storage().nbytes()) == place:
            return other
    return torch.from_dlpack(tensor)
