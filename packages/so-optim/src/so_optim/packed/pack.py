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

from so_optim.packed.clock import Clock
from so_optim.packed.finite import LateWarning
from so_optim.packed.launch import can_launch, launch
from so_optim.packed.layout import Layout
from so_optim.packed.select import keep_largest
from so_optim.packed.weights import Weights
from so_optim.packed.window import Slots, open_window
from so_optim.reading import Member, read_entries
from so_optim.update import NOBODY, adam_move, add_gradient_, forget_

__all__ = ["Draw", "Pack"]

Draw = Callable[[int, int, int, int, int], Tensor]
"""(seed, parameter number, draw number, n, k) to sorted positions."""

SURELY_POSITIVE = 1e-30  # an eps below may be 0 in fp32, and 0 / 0 is not nothing


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
        self.device = slots.moments.device
        self.clock = Clock(steps, self.device)
        self.warning = LateWarning(members, layout.starts, self.device)
        self.coming: Tensor | None = None  # drawn, but no gradient was accepted there yet
        self.unchanged: dict[int, Any] | None = None  # states as long as no window was opened

    def due(self) -> bool:
        """Whether the coming step needs another support."""
        return self.age is None or self.age >= self.group["T"]

    def gradient(self) -> Tensor:
        """Gradient at the support of the coming step, decay included, shape `(K,)`."""
        support = self._coming_support() if self.opens() else self.slots.positions[1]
        grad = self._gathered(support).to(self.slots.moments.dtype)
        if self.group["maximize"]:
            grad = grad.neg()
        decay = self.group["weight_decay"]
        if decay and not self.group["decoupled_weight_decay"]:
            grad = torch.add(grad, self.weights.read(support), alpha=float(decay))
        return grad

    def apply(self, grad: Tensor, off: Tensor | None = None) -> None:
        """Change weights and moments.

        Args:
            grad: What `gradient` gave; finite unless `off`.
            off: None, or a truth value on the device: if it is true nothing changes.
        """
        if self.opens():
            self.open_window()
        self._follow_bias_setting()
        if can_launch(self):
            launch(self, grad, off)
            return
        slots, after_update = self.slots, self.group["prune"] == "after_update"
        free = slots.free()
        self._advance_moments(grad, off)
        move = self._move(off) if after_update else None
        keep = keep_largest(slots.moments[0].abs(), free[0], self.layout)
        drop = keep.logical_not_()
        drop = drop if off is None else torch.where(off, free, drop)
        forget_(slots.moments, drop)
        self._move_weights(self._move(off) if move is None else move)
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
        if self.sampled:
            local = support.long() - self._bases()
            for member, part in zip(self.members, self.layout.slices(), strict=True):
                member.leaf.set_support(local[part])

    def outdated(self) -> bool:
        """Whether the coming support has another size than this pack."""
        return not self.sampled and self.due() and self.density != self.group["density_ratio"]

    def opens(self) -> bool:
        """Whether the coming step opens a window; that of a leaf was opened after the last one."""
        return self.age is None or (self.due() and not self.sampled)

    def _bases(self) -> Tensor:
        """What is added to the flat position in each slot, shape `(K,)`."""
        return self.layout.table[2].index_select(0, self.layout.members())

    def _coming_support(self) -> Tensor:
        """Draw the next support of every member; drawn once, however often it is asked for."""
        if self.coming is None:
            seed = self.group["seed"]
            each = [
                self.draw(seed, member.number, drawn, member.weight.numel(), k)
                for member, drawn, k in zip(
                    self.members, self.draws, self.layout.sizes, strict=True
                )
            ]
            support = torch.cat(each)
            support = support.pin_memory() if self.device.type == "cuda" else support
            support = support.to(self.device, non_blocking=True) + self._bases()
            self.coming = support.to(self.layout.index_dtype)
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
            age = self.clock.steps.to(torch.int32).expand(self.slots.positions.shape)
            self.slots.age = age.masked_fill(self.slots.free(), 0)

    def _advance_moments(self, grad: Tensor, off: Tensor | None) -> None:
        """Decay, add the gradient, count; if `off` do nothing but own the support."""
        slots = self.slots
        self.clock.decay_(slots.moments, self.group["betas"], off)
        grad = grad if off is None else grad.masked_fill(off, 0.0)
        add_gradient_(slots.moments[:, 1], grad, self.group["betas"])
        one = self.clock.tick_(off)
        if slots.age is not None:
            slots.age.add_(one)

    def _move(self, off: Tensor | None) -> Tensor:
        """What is added to each slot, decoupled decay of the support included."""
        slots, group = self.slots, self.group
        lr = group["lr"].reshape(()) if isinstance(group["lr"], Tensor) else group["lr"]
        corrections = self.clock.corrections(slots.age, slots.moments.dtype)
        move = adam_move(slots.moments, corrections, lr, group["eps"])
        decays = group["weight_decay"] and group["decoupled_weight_decay"]
        if decays:
            at_support = self.weights.read(slots.positions[1])
            if isinstance(lr, Tensor):
                move[1].sub_(at_support.to(move.dtype) * lr * group["weight_decay"])
            else:
                move[1].sub_(at_support, alpha=lr * float(group["weight_decay"]))
        pruned = group["prune"] == "before_update"
        if (decays and pruned) or not group["eps"] > SURELY_POSITIVE:
            move.masked_fill_(slots.free(), NOBODY)
        return move if off is None else move.masked_fill_(off, NOBODY)

    def _move_weights(self, move: Tensor) -> None:
        """Add to the weights, bit for bit nothing where the move is -0.0."""
        slots = self.slots
        if slots.value is None:
            self.weights.add(slots.positions, move)
            return
        # A weight that somebody else changed no longer is the rounded value: it wins.
        now = self.weights.read(slots.positions)
        own = slots.value.to(now.dtype) == now
        torch.add(torch.where(own, slots.value, now), move, out=slots.value)
        self.weights.write(slots.positions, slots.value.to(now.dtype))
