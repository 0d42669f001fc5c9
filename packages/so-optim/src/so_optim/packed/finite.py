"""What a NaN or infinite gradient does.

On the CPU a step looks before it changes anything. On an accelerator the host would have to wait
for that, so the step itself becomes empty there, and the host learns of it when it next comes by.
"""

import ctypes
import math
from bisect import bisect_right
from collections.abc import Sequence

import torch
from torch import Tensor

from so_optim.reading import Member, describe

__all__ = ["LateWarning", "any_bad", "are_bad", "refusal"]

NOTHING = -1


def refusal(member: Member) -> ValueError:
    """Say whose gradient is not finite, and what helps.

    Args:
        member: The parameter.

    Returns:
        The error to raise.
    """
    return ValueError(
        f"the gradient of {describe(member)} is NaN or infinite and nothing was "
        "changed: lower lr, scale the loss with GradScaler, or pass nonfinite='skip'"
    )


def are_bad(grads: Sequence[Tensor]) -> list[bool]:
    """Tell which vectors are not finite; the host waits once per device.

    Args:
        grads: Vectors.

    Returns:
        One truth value each.
    """
    bad = [False] * len(grads)
    for device in {grad.device for grad in grads}:
        here = [i for i, grad in enumerate(grads) if grad.device == device and len(grad)]
        if not here:
            continue
        # As float64: what is finite in a wide pack may not be in the dtype of a narrow one.
        largest = [grads[i].abs().amax().to(torch.float64) for i in here]
        together = largest[0] if len(here) == 1 else torch.stack(largest)
        for i, value in zip(here, together.view(-1).tolist(), strict=True):
            bad[i] = not math.isfinite(value)
    return bad


def any_bad(flags: Sequence[Tensor], device: torch.device) -> Tensor:
    """Combine what several packs found, on one device.

    Args:
        flags: Truth values, 0-d, on any device.
        device: Where the answer is needed.

    Returns:
        0-d bool.
    """
    here = [flag.to(device, non_blocking=True) for flag in flags]
    return here[0] if len(here) == 1 else torch.stack(here).any()


class LateWarning:
    """Remembers on the device which gradient was bad, for a host that does not wait.

    Args:
        members: Members of one pack.
        starts: First slot of each.
        device: Where the gradients are.
    """

    def __init__(
        self, members: Sequence[Member], starts: Sequence[int], device: torch.device
    ) -> None:
        self.members = members
        self.starts = starts
        self.seen = torch.full((), NOTHING, dtype=torch.int64, device=device)
        self.nothing = self.seen.clone()
        self.host = torch.full((), NOTHING, dtype=torch.int64, pin_memory=device.type == "cuda")
        # The host reads its copy as plain memory: a look must not become an operation.
        self.arrived = ctypes.c_int64.from_address(self.host.data_ptr())

    def watch(self, grad: Tensor, *, remember: bool) -> Tensor:
        """Tell whether a vector is not finite, without waiting.

        Args:
            grad: Shape `(K,)`.
            remember: Whether to raise for it later.

        Returns:
            0-d bool on its device.
        """
        if len(grad) == 0:
            return torch.zeros((), dtype=torch.bool, device=grad.device)
        bad, slot = (grad - grad).ne(0).max(0)  # NaN - NaN and inf - inf are NaN
        if remember:
            torch.maximum(self.seen, torch.where(bad, slot, self.nothing), out=self.seen)
            self.host.copy_(self.seen, non_blocking=True)
        return bad

    def raise_if_seen(self) -> None:
        """Raise for what has arrived on the host, once.

        Raises:
            ValueError: If a gradient was bad.
        """
        slot = self.arrived.value
        if slot != NOTHING:
            self.seen.fill_(NOTHING)
            self.host.copy_(self.seen)
            raise refusal(self._owner(slot))

    def seen_after_all(self) -> ValueError | None:
        """What there would be to raise if the host waited."""
        slot = int(self.seen)
        return None if slot == NOTHING else refusal(self._owner(slot))

    def blame(self, grad: Tensor) -> list[Member]:
        """Members whose gradient is not finite; `grad` has shape `(K,)`."""
        slots = grad.isfinite().logical_not().nonzero().view(-1).tolist()
        return list({id(m): m for m in map(self._owner, slots)}.values())

    def _owner(self, slot: int) -> Member:
        """Member of a slot; members without slots own none."""
        return self.members[bisect_right(self.starts, slot) - 1]
