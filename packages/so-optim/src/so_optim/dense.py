"""Parameters trained at every entry: Adam, as one long vector.

Biases and norms are many and small, so they are laid end to end and cost a fixed number of
operations however many they are.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from so_optim.finite import LateWarning
from so_optim.reading import Member
from so_optim.update import adam_move, add_gradient_, decay_moments_, moment_dtype

__all__ = ["DensePack"]


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
        self.exp_avg = self._joined("exp_avg", states)
        self.exp_avg_sq = self._joined("exp_avg_sq", states)
        steps = float(states[0]["step"]) if states[0] else 0.0
        self.steps = torch.full((), steps, dtype=torch.float64, device=self.device)
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

    def apply(self, grad: Tensor, live: Tensor | None = None) -> None:
        """Change weights and moments.

        Args:
            grad: What `gradient` gave; finite unless `live` is 0.
            live: None, or 1 or 0 on the device; 0 changes nothing.
        """
        group, self.fresh = self.group, False
        lr = group["lr"].reshape(()) if isinstance(group["lr"], Tensor) else group["lr"]
        if live is not None:
            grad = torch.where(live > 0, grad, grad.new_zeros(()))
        decay_moments_(self.exp_avg, self.exp_avg_sq, group["betas"], live)
        add_gradient_(self.exp_avg, self.exp_avg_sq, grad, group["betas"])
        self.steps.add_(1 if live is None else live)
        move = adam_move(
            self.exp_avg,
            self.exp_avg_sq,
            self.steps,
            lr=lr,
            betas=group["betas"],
            eps=group["eps"],
        )
        if group["weight_decay"] and group["decoupled_weight_decay"]:
            move.sub_(self._vector(self.weights) * (lr * group["weight_decay"]))
        if live is not None:
            move.masked_fill_(live == 0, -0.0)
        self._add(move)

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
        moments = zip(self._shaped(self.exp_avg), self._shaped(self.exp_avg_sq), strict=True)
        return {
            member.number: {
                "step": self.steps.to("cpu", torch.float32, copy=True),
                "exp_avg": m.clone(),
                "exp_avg_sq": v.clone(),
            }
            for member, (m, v) in zip(self.members, moments, strict=True)
        }

    def _joined(self, name: str, states: Sequence[Mapping[str, Any]]) -> Tensor:
        """One moment of all members, zero where there is no state yet."""
        if not states[0]:
            return torch.zeros(sum(self.sizes), dtype=self.dtype, device=self.device)
        return self._vector([state[name].to(self.device, self.dtype) for state in states])

    def _vector(self, tensors: Sequence[Any]) -> Tensor:
        """Entries of all tensors, row-major, end to end; a copy."""
        return torch.cat([tensor.reshape(-1) for tensor in tensors])

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
