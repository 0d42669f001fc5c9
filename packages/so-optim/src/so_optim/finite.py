"""What a NaN or infinite gradient does.

On the CPU a step looks before it changes anything. On an accelerator the host would have to wait
for that, so the step itself becomes empty there, and the host learns of it when it next comes by.
"""

from bisect import bisect_right
from collections.abc import Sequence

import torch
from torch import Tensor

from so_optim.reading import Member, describe

__all__ = ["LateWarning", "all_live", "first_bad", "refusal"]


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


def first_bad(grads: Sequence[Tensor]) -> list[bool]:
    """Tell which vectors are not finite; the host waits once per device.

    Args:
        grads: Vectors.

    Returns:
        One truth value each.
    """
    bad = [False] * len(grads)
    for device in {grad.device for grad in grads}:
        here = [i for i, grad in enumerate(grads) if grad.device == device]
        finite = torch.stack([grads[i].isfinite().all() for i in here]).tolist()
        for i, ok in zip(here, finite, strict=True):
            bad[i] = not ok
    return bad


def all_live(finite: Sequence[Tensor], device: torch.device) -> Tensor:
    """Combine what several packs found, on one device.

    Args:
        finite: Truth values, 0-d, on any device.
        device: Where the answer is needed.

    Returns:
        0-d float64: 1 if all are true, else 0.
    """
    flags = [flag.to(device, non_blocking=True) for flag in finite]
    together = flags[0] if len(flags) == 1 else torch.stack(flags).all()
    return together.to(torch.float64)


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
        self.seen = torch.zeros((), dtype=torch.int64, device=device)
        self.host = torch.zeros((), dtype=torch.int64, pin_memory=device.type == "cuda")

    def watch(self, bad: Tensor) -> None:
        """Note the first bad slot; `bad` has shape `(K,)`."""
        any_bad, slot = bad.max(0)
        self.seen.copy_(torch.maximum(self.seen, any_bad * (slot + 1)))
        self.host.copy_(self.seen, non_blocking=True)

    def raise_if_seen(self) -> None:
        """Raise for what has arrived on the host, once.

        Raises:
            ValueError: If a gradient was bad.
        """
        slot = int(self.host)
        if slot:
            self.seen.zero_()
            self.host.copy_(self.seen)
            raise refusal(self._owner(slot - 1))

    def seen_after_all(self) -> ValueError | None:
        """What there would be to raise if the host waited."""
        slot = int(self.seen)
        return refusal(self._owner(slot - 1)) if slot else None

    def blame(self, grad: Tensor) -> list[Member]:
        """Members whose gradient is not finite; `grad` has shape `(K,)`."""
        slots = grad.isfinite().logical_not().nonzero().view(-1).tolist()
        return list({id(m): m for m in map(self._owner, slots)}.values())

    def _owner(self, slot: int) -> Member:
        """Member of a slot; members without slots own none."""
        return self.members[bisect_right(self.starts, slot) - 1]
