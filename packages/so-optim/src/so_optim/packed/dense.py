"""Parameters trained at every entry: Adam, as one long vector.

Biases and norms are many and small, so they are laid end to end and cost a fixed number of
operations however many they are.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from so_optim.packed.clock import Clock
from so_optim.packed.finite import LateWarning
from so_optim.reading import Member
from so_optim.update import NOBODY, adam_move, add_gradient_, moment_dtype

__all__ = ["DensePack", "in_portions"]

MOMENTS = ("exp_avg", "exp_avg_sq")

PORTION = 2**22  # entries laid end to end; more would only need more memory for a moment


def in_portions(members: Sequence[Member]) -> list[list[Member]]:
    """Split members so that large weights are not copied side by side.

    Args:
        members: Members that may share a pack.

    Returns:
        Neighbours of at most `PORTION` entries together, or single members.
    """
    portions: list[list[Member]] = []
    room = -1
    for member in members:
        room -= member.weight.numel()
        if room < 0:
            portions.append([])
            room = PORTION - member.weight.numel()
        portions[-1].append(member)
    return portions


class DensePack:
    """Dense parameters of one group, device and dtype that have taken equally many steps.

    Args:
        members: The parameters.
        states: State of each, empty before the first step; only read.
    """

    def __init__(self, members: Sequence[Member], states: Sequence[Mapping[str, Any]]) -> None:
        self.members = members
        self.group: dict[str, Any] = members[0].group
        self.sampled = False
        self.weights = [member.weight.detach() for member in members]
        first = self.weights[0]
        self.device, self.dtype = first.device, moment_dtype(first)
        self.sizes = [weight.numel() for weight in self.weights]
        self.moments = self._joined(states)
        self.clock = Clock(float(states[0]["step"]) if states[0] else 0.0, self.device)
        self.fresh = not states[0]
        starts = [0, *accumulate(self.sizes)][:-1]
        self.warning = LateWarning(members, starts, self.device)

    def gradient(self) -> Tensor:
        """All gradients as one vector, coupled decay included."""
        group = self.group
        grad = self._vector([member.param.grad for member in self.members]).to(self.dtype)
        if group["maximize"]:
            grad = grad.neg()
        if group["weight_decay"] and not group["decoupled_weight_decay"]:
            grad = grad + group["weight_decay"] * self._vector(self.weights).to(self.dtype)
        return grad

    def apply(self, grad: Tensor, off: Tensor | None = None) -> None:
        """Change weights and moments.

        Args:
            grad: What `gradient` gave; finite unless `off`.
            off: None, or a truth value on the device: if it is true nothing changes.
        """
        group, self.fresh = self.group, False
        lr = group["lr"].reshape(()) if isinstance(group["lr"], Tensor) else group["lr"]
        self.clock.decay_(self.moments, group["betas"], off)
        grad = grad if off is None else grad.masked_fill(off, 0.0)
        add_gradient_(self.moments, grad, group["betas"])
        self.clock.tick_(off)
        corrections = self.clock.corrections(None, self.dtype)
        move = adam_move(self.moments, corrections, lr, group["eps"])
        if group["weight_decay"] and group["decoupled_weight_decay"]:
            move.sub_(self._vector(self.weights) * (lr * group["weight_decay"]))
        self._add(move if off is None else move.masked_fill_(off, NOBODY))

    def outdated(self) -> bool:
        """Never: there is no support."""
        return False

    def due(self) -> bool:
        """Never: there is no support."""
        return False

    def open_window(self) -> None:
        """Nothing to draw."""

    def count(self) -> None:
        """Steps are counted on the device."""

    def unpack(self) -> dict[int, dict[str, Any]]:
        """Give every member its state back; one that never took a step has none."""
        if self.fresh:
            return {}
        moments = zip(*map(self._shaped, self.moments), strict=True)
        return {
            member.number: {
                "step": self.clock.steps.to("cpu", torch.float32, copy=True),
                "exp_avg": m.clone(),
                "exp_avg_sq": v.clone(),
            }
            for member, (m, v) in zip(self.members, moments, strict=True)
        }

    def _joined(self, states: Sequence[Mapping[str, Any]]) -> Tensor:
        """Both moments of all members, zero where there is no state yet."""
        if not states[0]:
            return torch.zeros(2, sum(self.sizes), dtype=self.dtype, device=self.device)
        each = [self._vector([state[name].to(self.device) for state in states]) for name in MOMENTS]
        return torch.stack(each).to(self.dtype)

    def _vector(self, tensors: Sequence[Any]) -> Tensor:
        """Entries of all tensors, row-major, end to end; only to be read."""
        rows = [tensor.reshape(-1) for tensor in tensors]
        return rows[0] if len(rows) == 1 else torch.cat(rows)

    def _shaped(self, vector: Tensor) -> list[Tensor]:
        """Views of a vector in the shapes of the members."""
        parts = vector.split(self.sizes)
        return [part.view(w.shape) for part, w in zip(parts, self.weights, strict=True)]

    def _add(self, move: Tensor) -> None:
        """Add to all weights; narrow ones are rounded once."""
        if self.weights[0].dtype == move.dtype:
            torch._foreach_add_(self.weights, self._shaped(move))
        else:
            wide = self._vector(self.weights).to(move.dtype).add_(move)
            torch._foreach_copy_(self.weights, self._shaped(wide))
