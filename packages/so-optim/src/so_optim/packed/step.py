"""What moves in a step and in which order: gradients are looked at before anything changes."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from so_optim.packed.finite import any_bad, are_bad, refusal
from so_optim.packed.pack import Draw, Pack
from so_optim.packed.plan import AnyPack, dissolve, form_packs, signature

__all__ = ["PackedStep"]


class PackedStep:
    """The packs of one optimizer, from one reading of its state to the next."""

    def __init__(self) -> None:
        self.packs: list[AnyPack] = []
        self.signature: list[Any] | None = None
        self.refused: ValueError | None = None  # news of a bad gradient, for the next step
        self.waits: bool | None = None  # None: if all gradients are on the CPU

    def form(
        self,
        groups: Sequence[dict[str, Any]],
        leaves: Mapping[Tensor, Any],
        states: dict[Tensor, Any],
        draw: Draw,
    ) -> None:
        """Put together what has a gradient, unless it already is.

        Args:
            groups: Parameter groups.
            leaves: Leaf of each sampled parameter.
            states: State of each parameter; packed ones are taken out.
            draw: Draws a support.

        Raises:
            ValueError: If SO cannot train a parameter.
        """
        found = signature(groups, leaves)
        if found == self.signature and not any(pack.outdated() for pack in self.packs):
            return
        self.dissolve(states)
        packs = form_packs(groups, leaves, states, draw)
        for pack in packs:
            for member in pack.members:
                states.pop(member.param, None)
        self.packs, self.signature = packs, signature(groups, leaves)  # weights may have moved

    def dissolve(self, states: dict[Tensor, Any]) -> None:
        """Give every parameter its state back.

        Args:
            states: State of each parameter; packed ones are put in.
        """
        packs, self.packs, self.signature = self.packs, [], None
        for pack in packs:
            self.refused = self.refused or pack.warning.seen_after_all()
        states.update(dissolve(packs))

    def move(self) -> bool:
        """Do the device's part of a step.

        Returns:
            False if a gradient is known to be bad, and nothing was changed.

        Raises:
            ValueError: If it is, and its group says so.
        """
        grads = [pack.gradient() for pack in self.packs]
        off: list[Tensor | None] = [None] * len(grads)
        if not self._waits():
            off = self._watched(grads)
        elif self._refuses(grads):
            return False
        for pack, grad, flag in zip(self.packs, grads, off, strict=True):
            pack.apply(grad, flag)
        return True

    def count(self) -> None:
        """Do the host's part; leaves must know their next support before the forward pass."""
        for pack in self.packs:
            pack.count()
            if pack.sampled and pack.due():
                pack.open_window()

    def advance(self, steps: int) -> None:
        """Do the host's part of steps that were replayed, supports of all packs included.

        Args:
            steps: How many.
        """
        for pack in self.packs:
            for _ in range(steps):
                pack.count()
            if pack.due():
                pack.open_window()

    def raise_late(self) -> None:
        """Raise for a bad gradient of an earlier step.

        Raises:
            ValueError: If the device found one.
        """
        refused, self.refused = self.refused, None
        if refused is not None:
            raise refused
        for pack in self.packs:
            pack.warning.raise_if_seen()

    def is_captured(self) -> bool:
        """Tell whether a CUDA graph is being captured.

        Raises:
            RuntimeError: If it is, and would capture a draw.
        """
        if not (torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()):
            return False
        if any(isinstance(pack, Pack) and pack.opens() for pack in self.packs):
            raise RuntimeError(
                "SO.step is captured while a new support is due: call optimizer.advance(0) before "
                "the capture"
            )
        return True

    def _waits(self) -> bool:
        """Whether the host looks at the gradients before it goes on."""
        if self.waits is None:
            return all(pack.device.type == "cpu" for pack in self.packs)
        return self.waits

    def _refuses(self, grads: Sequence[Tensor]) -> bool:
        """Whether a gradient is not finite; raise if its group says so."""
        bad = [
            member
            for pack, grad, is_bad in zip(self.packs, grads, are_bad(grads), strict=True)
            if is_bad
            for member in pack.warning.blame(grad)
        ]
        for member in sorted(bad, key=lambda member: member.number):
            if member.group["nonfinite"] == "raise":
                raise refusal(member)
        return bool(bad)

    def _watched(self, grads: Sequence[Tensor]) -> list[Tensor | None]:
        """For each pack, on its device, whether the whole step is to change nothing."""
        flags = [
            pack.warning.watch(grad, remember=pack.group["nonfinite"] == "raise")
            for pack, grad in zip(self.packs, grads, strict=True)
        ]
        devices = {pack.device for pack in self.packs}
        together = {device: any_bad(flags, device) for device in devices}
        return [together[pack.device] for pack in self.packs]
