"""A pack's step in one launch of Triton's kernel, where it runs; the torch step is its twin."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from so_optim.kernels import runs_on

if TYPE_CHECKING:
    from so_optim.packed.pack import Pack

__all__ = ["can_launch", "launch"]

LARGEST = 16384  # slots of a matrix, by one program; a sort by the whole GPU is faster beyond


def can_launch(pack: "Pack") -> bool:
    """Tell whether the kernel does what the settings of a pack ask for.

    Args:
        pack: With its window open.

    Returns:
        True on a GPU for weights side by side, moments in fp32, global bias correction and no
        decoupled decay.
    """
    group = pack.group
    decoupled = group["weight_decay"] and group["decoupled_weight_decay"]
    return (
        runs_on(pack.device)
        and pack.weights.flat is not None
        and pack.slots.moments.dtype == torch.float32
        and group["bias_correction"] == "global"
        and not decoupled
        and pack.layout.sizes[-1] <= LARGEST
    )


def launch(pack: "Pack", grad: Tensor, off: Tensor | None) -> None:
    """Change weights and moments.

    Args:
        pack: With its window open.
        grad: Gradient at the support, shape `(K,)`.
        off: None, or a truth value on the device: if it is true nothing changes.
    """
    from so_optim.kernels.step import packed_step_triton

    group, slots, (sizes, starts, *_) = pack.group, pack.slots, pack.layout.table
    weight: Any = pack.weights.flat
    pack.clock.know(group["betas"])
    pack.clock.tick_(off)
    packed_step_triton(
        *(slots.positions, slots.moments, grad, weight, starts, sizes),
        corrections=pack.clock.corrections(None, torch.float32),
        **{name: group[name] for name in ("lr", "betas", "eps", "prune")},
        value=slots.value,
        off=off,
    )
    pack.weights.tell_autograd()
