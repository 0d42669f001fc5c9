"""How many operations a call sends to the device, and how often it waits for an answer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["Operations", "count_operations"]

aten = torch.ops.aten
ASKING = {
    aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten.is_nonzero,
    aten._unique2, aten.unique_dim, aten.unique_consecutive,
}  # fmt: skip
"""Operations whose result, or its size, the host has to wait for."""
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
"""These wait where an index is a mask."""


@dataclass
class Operations:
    """What one call did.

    Args:
        launched: Operations that are no views: each is at least one kernel.
        waits: Host synchronisations, where the tensors are on a GPU.
    """

    launched: int = 0
    waits: int = 0


def count_operations(call: Callable[[], Any]) -> Operations:
    """Count what a call does.

    Args:
        call: Done once, for real; hand-written kernels that torch does not dispatch are not seen.

    Returns:
        The counts.

    Examples:
        >>> x = torch.ones(3)
        >>> count_operations(lambda: x.exp().view(3, 1).sum().item())
        Operations(launched=3, waits=1)
    """
    with _Counter() as counter:
        call()
    return counter.found


class _Counter(TorchDispatchMode):
    """Counts on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.found = Operations()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found.launched += not _is_free(func)
        self.found.waits += _waits(func, args)
        return func(*args, **(kwargs or {}))


def _is_free(func: Any) -> bool:
    """Tell operations that only look at memory in another way, or ask where it is."""
    if func.namespace == "prim" or func.overloadpacket is aten._unsafe_view:
        return True
    returns = func._schema.returns
    return any(r.alias_info is not None and not r.alias_info.is_write for r in returns)


def _waits(func: Any, args: Any) -> bool:
    """Tell operations that the host has to wait for."""
    packet = func.overloadpacket
    if packet in INDEXING:
        masks = (torch.bool, torch.uint8)
        return any(isinstance(i, torch.Tensor) and i.dtype in masks for i in tree_leaves(args[1]))
    return packet in ASKING
