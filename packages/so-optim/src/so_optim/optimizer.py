"""The optimizer class: settings, supports, checkpoints and the loop over groups.

The arithmetic is in `update.py`; `apply.py` carries it to one weight and its state.

A step first reads every gradient it needs and only then changes anything, so a NaN gradient leaves
weights, moments and supports as they were.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from so_optim.apply import apply_reading
from so_optim.checkpoint import check_fits, exact_state
from so_optim.reading import (
    Reading,
    Support,
    check_readable,
    describe,
    nonfinite,
    read_entries,
)
from so_optim.settings import check_settings, trains_densely
from so_optim.support import draw_support, support_size, support_stream

__all__ = ["SO"]


class SO(Optimizer):
    r"""Sparse Optimization: Adam on a random, moving support of each matrix.

    Every $T$ steps a matrix of $n$ entries draws $k = \max(1, \lfloor n\rho \rfloor)$ random
    positions $S$. A step updates Adam's moments on the union $U = K \cup S$ with the kept set $K$,
    moves the weights there,

    $$W_U \leftarrow W_U - \eta \, \hat m_U / (\sqrt{\hat v_U} + \varepsilon),$$

    and keeps as next $K$ the $k$ entries of $U$ with the largest $|m|$ (the lower position on a
    tie). All other entries stay as they are, bit for bit. Parameters that are not matrices are
    trained by plain Adam unless their group says otherwise. At density 1, SO is Adam with coupled
    weight decay.

    Gradients are only read: they are neither cleared nor changed. Moments are fp32, or wider if the
    weight is. Supports depend on `seed` alone, never on the global random state or the device.

    Args:
        params: Parameters or groups, as for any torch optimizer; a group may set any argument.
        lr: $\eta$, a number or a tensor with one element.
        betas: $(\beta_1, \beta_2)$, decay of the moments per step.
        eps: $\varepsilon$, added to the denominator.
        weight_decay: $\lambda$. Coupled as released: $\lambda W_S$ is added to the gradient at $S$.
        density_ratio: $\rho$ in (0, 1], the fraction of each matrix in its support.
        T: Steps that a support lives, at least 1.
        dense: True trains every entry (Adam), False a support, whatever the shape. None means
            "dense if it is not a matrix".
        prune: "after_update" moves all of $U$, as released; "before_update" only the new $K$, as in
            the paper's equations.
        bias_correction: "global" counts the steps of the matrix, as released; "per_entry" those
            since the entry entered $K$, which makes late steps up to six times smaller.
        decoupled_weight_decay: Shrink the moved entries of $S$ by $\eta\lambda$ instead (AdamW).
        maximize: Climb instead of descend.
        nonfinite: What a NaN or infinite gradient does. "raise" names the parameter; "skip" leaves
            out the whole step. Either way nothing is changed.
        seed: Names the sequence of supports.

    Raises:
        ValueError: If a setting is not allowed, a gradient is sparse or not finite, or a parameter
            is complex.

    Examples:
        >>> model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Linear(32, 2))
        >>> optimizer = SO(model.parameters(), lr=1e-3, density_ratio=0.01, T=10)
        >>> model(torch.ones(8, 64)).square().mean().backward()
        >>> optimizer.step()
        >>> optimizer.state[model[0].weight]["support"].shape  # 1 % of 64 x 32
        torch.Size([20])

    Reference:
        Mrabah, Richet, Ben Ayed, Granger: Sparsity Outperforms Low-Rank Projections in Few-Shot
        Adaptation, ICCV 2025, arXiv 2504.12436. Differences are listed in docs/methods/so.md.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 2e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        density_ratio: float = 5e-4,
        T: int = 10,
        *,
        dense: bool | None = None,
        prune: str = "after_update",
        bias_correction: str = "global",
        decoupled_weight_decay: bool = False,
        maximize: bool = False,
        nonfinite: str = "raise",
        seed: int = 0,
    ) -> None:
        # Only what is in a group survives pickling and state_dict, so everything lives there.
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "density_ratio": density_ratio,
            "T": T,
            "dense": dense,
            "prune": prune,
            "bias_correction": bias_correction,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
            "nonfinite": nonfinite,
            "seed": seed,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, checking its settings first.

        Args:
            param_group: Dict with "params" and any setting that differs from the defaults.

        Raises:
            ValueError: If a setting is not allowed.
        """
        check_settings({**self.defaults, **param_group})
        super().add_param_group(param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue a saved run bit for bit, supports and moments included.

        Args:
            state_dict: What `state_dict()` gave, of the same shapes and density.

        Raises:
            ValueError: If it belongs to other weights or another density.
        """
        check_fits(self.param_groups, state_dict)
        super().load_state_dict(state_dict)
        self.state.update(exact_state(self.param_groups, state_dict))

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:  # settings that a state saved earlier did not know
            for name, value in self.defaults.items():
                group.setdefault(name, value)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every parameter that has a gradient by one step.

        Args:
            closure: Recomputes the loss with gradients, as for any torch optimizer.

        Returns:
            What the closure returned, or None.

        Raises:
            ValueError: If a gradient is sparse, or not finite where `nonfinite="raise"`.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        readings = list(self._read())
        bad = nonfinite(readings)
        for reading in bad:
            if reading.group["nonfinite"] == "raise":
                raise ValueError(
                    f"the gradient of {describe(reading)} is NaN or infinite and nothing was "
                    "changed: lower lr, scale the loss with GradScaler, or pass nonfinite='skip'"
                )
        if not bad:
            for reading in readings:
                apply_reading(reading, self.state[reading.weight])
        return loss

    def _read(self) -> Iterator[Reading]:
        """Gradients of all parameters, at their supports, in order."""
        numbered = enumerate((w, group) for group in self.param_groups for w in group["params"])
        for number, (weight, group) in numbered:
            if weight.grad is None:
                continue
            reading = Reading(number, weight, group, None, weight.grad)
            check_readable(reading)
            if not trains_densely(weight, group):
                support = self._support(number, weight, group)
                grad = read_entries(weight.grad, support.positions)
                reading = Reading(number, weight, group, support, grad)
            yield reading

    def _support(self, number: int, weight: Tensor, group: dict[str, Any]) -> Support:
        """Support of the coming step: the current one, or a new one after T steps."""
        state = self.state.get(weight)
        if state and state["support_age"] < group["T"]:
            return Support(state["support"], state["support_age"], state["draws"])
        draws = state["draws"] if state else 0
        n = weight.numel()
        k = support_size(n, group["density_ratio"])
        positions = self._draw(group["seed"], number, draws, n, k)
        return Support(positions.to(weight.device), 0, draws + 1)

    def _draw(self, seed: int, number: int, draw: int, n: int, k: int) -> Tensor:
        """Draw number `draw` of parameter `number`; subclasses may inject other supports."""
        return draw_support(n, k, support_stream(seed, number, draw))
