r"""All sparse matrices of a group that are in step, moved together.

With kept set $K$ and support $S$ of each matrix, one step

1. lets the moments of $U = K \cup S$ decay and adds the gradient at $S$;
2. moves the weights on $U$ (`prune="before_update"`: on the next $K$) as Adam does;
3. keeps as next $K$ the $k$ entries of $U$ with the largest $|m|$.

The number of operations does not depend on the number of matrices, and the host never waits.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from so_optim.finite import LateWarning
from so_optim.packed_layout import Layout
from so_optim.packed_weights import Weights
from so_optim.reading import Member, read_entries
from so_optim.select import keep_largest
from so_optim.update import NOBODY, adam_move, add_gradient_, decay_moments_
from so_optim.window import Slots, open_window

__all__ = ["Draw", "Pack"]

Draw = Callable[[int, int, int, int, int], Tensor]
"""(seed, parameter number, draw number, n, k) to sorted positions."""


class Pack:
    """Matrices of one group, device and dtype that have taken equally many steps.

    Args:
        members: The matrices, in order of support size.
        layout: Where each lies.
        weights: Access to them.
        slots: Candidates with their moments.
        steps: Steps taken.
        age: Steps the support has served; None before there is one.
        draws: Supports drawn so far, of each member.
        draw: Draws a support.
    """

    def __init__(
        self,
        members: Sequence[Member],
        layout: Layout,
        weights: Weights,
        slots: Slots,
        steps: int,
        age: int | None,
        draws: list[int],
        draw: Draw,
    ) -> None:
        self.members, self.layout, self.weights, self.slots = members, layout, weights, slots
        self.group: dict[str, Any] = members[0].group
        self.density = self.group["density_ratio"]
        self.sampled = members[0].leaf is not None
        self.age, self.draws, self.draw = age, draws, draw
        self.device = slots.exp_avg.device
        self.steps = torch.full((), float(steps), dtype=torch.float64, device=self.device)
        self.warning = LateWarning(members, layout.starts, self.device)
        self.coming: Tensor | None = None  # drawn, but no gradient was accepted there yet
        self.unchanged: dict[int, Any] | None = None  # states as long as no window was opened

    def due(self) -> bool:
        """Whether the coming step needs another support."""
        return self.age is None or self.age >= self.group["T"]

    def gradient(self) -> Tensor:
        """Gradient at the support of the coming step, decay included, shape `(K,)`."""
        support = self._coming_support() if self.opens() else self.slots.positions[1]
        grad = self._gathered(support).to(self.slots.exp_avg.dtype)
        if self.group["maximize"]:
            grad = grad.neg()
        decay = self.group["weight_decay"]
        if decay and not self.group["decoupled_weight_decay"]:
            grad = grad + decay * self.weights.read(support).to(grad.dtype)
        return grad

    def apply(self, grad: Tensor, live: Tensor | None = None) -> None:
        """Change weights and moments.

        Args:
            grad: What `gradient` gave; finite unless `live` is 0.
            live: None, or 1 or 0 on the device; 0 changes nothing.
        """
        if self.opens():
            self.open_window()
        slots, group = self.slots, self.group
        self._follow_bias_setting()
        before = slots.owned() if live is not None else None
        self._advance_moments(grad, live)
        nobody = slots.exp_avg_sq.signbit()
        score = slots.exp_avg.abs().masked_fill_(nobody, -1.0)
        keep = keep_largest(score, self.layout)
        move = self._move()
        stay = nobody if group["prune"] == "after_update" else keep.logical_not()
        if live is not None and before is not None:
            off = live == 0
            stay = stay | off
            keep = torch.where(off, before, keep)
        self._move_weights(move.masked_fill_(stay, -0.0))
        drop = keep.logical_not_()
        slots.exp_avg.masked_fill_(drop, 0.0)
        slots.exp_avg_sq.masked_fill_(drop, NOBODY)
        if slots.age is not None:
            slots.age.masked_fill_(drop, 0)

    def count(self) -> None:
        """Count one step of the support."""
        self.age = (self.age or 0) + 1

    def open_window(self) -> None:
        """Go on with the next support; buffers keep their addresses."""
        support = self._coming_support()
        value = None if self.slots.value is None else self.weights.read(support)
        open_window(self.slots, self.layout, support, value)
        self.draws = [number + 1 for number in self.draws]
        self.age, self.coming, self.unchanged = 0, None, None
        for member, part, base in self._parts():
            if member.leaf is not None:
                member.leaf.set_support(support[part].long() - base)

    def outdated(self) -> bool:
        """Whether the coming support has another size than this pack."""
        return not self.sampled and self.due() and self.density != self.group["density_ratio"]

    def opens(self) -> bool:
        """Whether the coming step opens a window; that of a leaf was opened after the last one."""
        return self.age is None or (self.due() and not self.sampled)

    def _parts(self) -> Any:
        """Each member with its slots and base."""
        return zip(self.members, self.layout.slices(), self.layout.bases, strict=True)

    def _coming_support(self) -> Tensor:
        """Draw the next support of every member; drawn once, however often it is asked for."""
        if self.coming is None:
            seed = self.group["seed"]
            each = [
                self.draw(seed, m.number, drawn, m.weight.numel(), k) + base
                for m, drawn, k, base in zip(
                    self.members, self.draws, self.layout.sizes, self.layout.bases, strict=True
                )
            ]
            support = torch.cat(each).to(self.layout.index_dtype)
            if self.device.type == "cuda":
                support = support.pin_memory()
            self.coming = support.to(self.device, non_blocking=True)
        return self.coming

    def _gathered(self, support: Tensor) -> Tensor:
        """Gradients of all members at their support."""
        grads: list[Any] = [member.param.grad for member in self.members]
        if not self.sampled:
            parts = zip(grads, self.layout.slices(), self.layout.bases, strict=True)
            grads = [
                read_entries(grad, support[part] - base if base else support[part])
                for grad, part, base in parts
            ]
        return torch.cat(grads)

    def _follow_bias_setting(self) -> None:
        """Remember ages where they are used; the option may change midway."""
        if self.group["bias_correction"] == "global":
            self.slots.age = None
        elif self.slots.age is None:
            steps = self.steps.to(torch.int32)
            self.slots.age = torch.where(self.slots.owned(), steps, torch.zeros_like(steps))

    def _advance_moments(self, grad: Tensor, live: Tensor | None) -> None:
        """Decay, add the gradient, count; with `live` 0 do nothing but own the support."""
        slots, betas = self.slots, self.group["betas"]
        if live is not None:
            grad = torch.where(live > 0, grad, grad.new_zeros(()))
        decay_moments_(slots.exp_avg, slots.exp_avg_sq, betas, live)
        add_gradient_(slots.exp_avg[1], slots.exp_avg_sq[1], grad, betas)
        self.steps.add_(1 if live is None else live)
        if slots.age is not None:
            slots.age.add_(1 if live is None else live.to(slots.age.dtype))

    def _move(self) -> Tensor:
        """What Adam adds to each slot, decoupled decay of the support included."""
        slots, group = self.slots, self.group
        lr = group["lr"].reshape(()) if isinstance(group["lr"], Tensor) else group["lr"]
        steps = self.steps if slots.age is None else slots.age.to(slots.exp_avg.dtype)
        move = adam_move(
            slots.exp_avg,
            slots.exp_avg_sq,
            steps,
            lr=lr,
            betas=group["betas"],
            eps=group["eps"],
        )
        if group["weight_decay"] and group["decoupled_weight_decay"]:
            shrink = self.weights.read(slots.positions[1]) * (lr * group["weight_decay"])
            move[1].sub_(shrink)
        return move

    def _move_weights(self, move: Tensor) -> None:
        """Add to the weights, bit for bit nothing where the move is -0.0."""
        slots = self.slots
        if slots.value is None:
            self.weights.add(slots.positions, move)
            return
        # A weight that somebody else changed no longer is the rounded value: it wins.
        now = self.weights.read(slots.positions)
        own = slots.value.to(now.dtype) == now
        slots.value.copy_(torch.where(own, slots.value, now.to(slots.value.dtype)).add_(move))
        self.weights.write(slots.positions, slots.value.to(now.dtype))
