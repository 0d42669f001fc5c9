r"""SNELLA's competition between layers: a shrinking budget of entries, shared out by importance.

Inside a layer magnitudes compete for a number of entries; here the layers compete for the numbers.
After every optimizer step, for every entry $\theta$ of the factors,

$$I = |\theta\,\partial L / \partial\theta|, \qquad
  \bar I \leftarrow \beta_1 \bar I + (1 - \beta_1) I, \qquad
  U \leftarrow \beta_2 U + (1 - \beta_2) |I - \bar I|,$$

sensitivity and uncertainty as in AdaLoRA. A layer scores the mean of $\bar I\,U$ over its input
side plus that over its output side. The budget falls with the cube of the time that is left.
"""

from typing import Any

import torch
from torch import Tensor, nn

from .factors import SnellFactors
from .quota import cubic_budget, share_out

__all__ = ["SparsityAllocator"]


class SparsityAllocator:
    r"""Give every layer its own sparsity while training, from one budget for the whole model.

    With $K_0 = \sum (1 - s_0)\,mn$ entries at the start, $K_T = \sum (1 - s_T)\,mn$ at the end,
    $T$ epochs and warm-ups $t_0$, $t_1$, epoch $t$ has the budget

    $$K(t) = K_T + (K_0 - K_T) \left(1 - \frac{t - t_0}{T - t_0 - t_1}\right)^3,$$

    $K_0$ up to $t_0$ and $K_T$ after $T - t_1$. A layer gets $\min(mn - 1, \lambda\,score)$
    entries, where $\lambda$ spends the budget. Quotas are entries, not shares, so a small layer
    with a high score becomes dense. Every layer keeps at least one entry and drops at least one.
    The modules of a fused qkv count as one layer.

    Args:
        model: Has `SnellFactors` that are trained, in `SnellLinear` or in adapters of PEFT.
        final_sparsity: $s_T$, share of all adapted entries that is zero in the end, in [0, 1).
        total: $T$, the epochs of the whole training (or any other unit of time). The release
            counts epochs from 0 to $T - 1$, so it only comes close to $K_T$; `final_warmup=1`
            reaches it in the last epoch.
        initial_sparsity: $s_0$, of every layer at the start.
        warmup: $t_0$, last epoch with the sparsity of the start.
        final_warmup: $t_1$, length of the phase at the end in which the budget is $K_T$.
        betas: Decay of sensitivity and of uncertainty.

    Raises:
        ValueError: If an argument is outside its range, or no layer can take a sparsity.

    Examples:
        >>> import torch
        >>> from snell_layers import SnellLinear, SparsityAllocator
        >>> model = torch.nn.Sequential(*[SnellLinear(torch.nn.Linear(8, 8), 4) for _ in range(2)])
        >>> optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
        >>> allocator = SparsityAllocator(model, final_sparsity=0.75, total=4)
        >>> for epoch in range(4):
        ...     pattern = allocator.allocate(epoch)
        ...     optimizer.zero_grad()
        ...     model(torch.ones(1, 8)).sum().backward()
        ...     optimizer.step()
        ...     allocator.observe()
        >>> list(pattern), allocator.budget(3)
        (['0', '1'], 33)

    Reference:
        Kernelized Sparse Fine-Tuning with Bi-level Parameter Competition for Vision Models,
        arXiv 2510.24037, and its release; the scores are those of AdaLoRA, arXiv 2303.10512.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        final_sparsity: float,
        total: float,
        initial_sparsity: float = 0.0,
        warmup: float = 0,
        final_warmup: float = 0,
        betas: tuple[float, float] = (0.85, 0.85),
    ) -> None:
        self._layers = _trained_layers(model)
        self.initial_sparsity, self.final_sparsity = initial_sparsity, final_sparsity
        self.total, self.warmup, self.final_warmup = total, warmup, final_warmup
        self.betas = betas
        self.epoch: float | None = None
        self._check()
        factors = [f for layer in self._layers.values() for f in (layer.inner, layer.outer)]
        self._sensitivity = [torch.zeros_like(f, dtype=_wide(f)).detach() for f in factors]
        self._uncertainty = [torch.zeros_like(s) for s in self._sensitivity]

    def budget(self, epoch: float) -> int:
        """Entries that the whole model may keep at a time."""
        entries = sum(map(_size, self._layers.values()))
        start, end = ((1 - s) * entries for s in (self.initial_sparsity, self.final_sparsity))
        return cubic_budget(
            epoch, start, end, self.total, warmup=self.warmup, final_warmup=self.final_warmup
        )

    @torch.no_grad()
    def observe(self) -> None:
        """Take a step's gradients in: after `optimizer.step()`, before they are zeroed."""
        factors = [f for layer in self._layers.values() for f in (layer.inner, layer.outer)]
        seen = [
            torch.zeros_like(s) if f.grad is None else (f * f.grad).abs_().to(s.dtype)
            for f, s in zip(factors, self._sensitivity, strict=True)
        ]
        for one in seen:
            one.nan_to_num_(0, 0, 0)  # a step that overflowed must not spoil the averages for good
        first, second = self.betas
        torch._foreach_mul_(self._sensitivity, first)
        torch._foreach_add_(self._sensitivity, seen, alpha=1 - first)
        apart = torch._foreach_sub(seen, self._sensitivity)
        torch._foreach_abs_(apart)
        torch._foreach_mul_(self._uncertainty, second)
        torch._foreach_add_(self._uncertainty, apart, alpha=1 - second)

    def scores(self) -> dict[str, float]:
        """The share of every layer in the importance of all; equal before any step was seen."""
        pairs = zip(self._sensitivity, self._uncertainty, strict=True)
        means = torch.stack([(s.double() * u).mean().cpu() for s, u in pairs])
        sums = means.view(-1, 2).sum(1).tolist()
        total = sum(sums)
        shares = [s / total for s in sums] if total > 0 else [1 / len(sums)] * len(sums)
        return dict(zip(self._layers, shares, strict=True))

    def allocate(self, epoch: float) -> dict[str, float]:
        """Share the budget of an epoch out: at its start, from what was observed so far.

        Args:
            epoch: Time since the start of training, in the unit of `total`.

        Returns:
            `pattern()`, the sparsity of every layer from now on.
        """
        layers = list(self._layers.values())
        observed = epoch > self.warmup and any(s.any() for s in self._sensitivity)
        quotas = share_out(
            self.budget(epoch),
            list(self.scores().values()) if observed else [float(_size(x)) for x in layers],
            least=[layer.pieces for layer in layers],
            most=[_size(layer) - layer.pieces for layer in layers],
        )
        for layer, quota in zip(layers, quotas, strict=True):
            layer.keep(quota // layer.pieces)
        self.epoch = epoch
        return self.pattern()

    def pattern(self) -> dict[str, float]:
        """Sparsity by module name, in the order of the model: to plot, or as `sparsity_pattern`."""
        return {name: layer.rule.sparsity for name, layer in self._layers.items()}

    def state_dict(self) -> dict[str, Any]:
        """Averages, quotas and time, for `load_state_dict` to resume bit for bit."""
        return {
            "epoch": self.epoch,
            "kept": {name: int(layer.kept) for name, layer in self._layers.items()},
            "sensitivity": dict(zip(self._keys(), self._sensitivity, strict=True)),
            "uncertainty": dict(zip(self._keys(), self._uncertainty, strict=True)),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state, of the same layers; sets their sparsity too.

        Raises:
            ValueError: If the state was saved for other layers or other shapes.
        """
        own = {key: tuple(s.shape) for key, s in zip(self._keys(), self._sensitivity, strict=True)}
        saved = {key: tuple(tensor.shape) for key, tensor in state["sensitivity"].items()}
        if own != saved:
            key = next(k for k in [*own, *saved] if own.get(k) != saved.get(k))
            raise ValueError(
                f"state is of other layers: {key} is {saved.get(key, 'missing')} in it and "
                f"{own.get(key, 'missing')} in the model; load it into the model it was saved with"
            )
        for name in ("sensitivity", "uncertainty"):
            for key, tensor in zip(self._keys(), getattr(self, f"_{name}"), strict=True):
                tensor.copy_(state[name][key])
        for name, layer in self._layers.items():
            layer.keep(state["kept"][name])
        self.epoch = state["epoch"]

    def _keys(self) -> list[str]:
        """Names of the averages."""
        return [f"{name}.{side}" for name in self._layers for side in ("inner", "outer")]

    def _check(self) -> None:
        """Refuse numbers outside their range, and layers that cannot take part."""
        for name in ("initial_sparsity", "final_sparsity"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"{name} must be at least 0 and below 1, but is {getattr(self, name)}: "
                    "it is the share of entries set to zero"
                )
        if (
            self.warmup < 0
            or self.final_warmup < 0
            or self.total <= self.warmup + self.final_warmup
        ):
            raise ValueError(
                f"total must be above warmup + final_warmup, both at least 0, but total is "
                f"{self.total}, warmup {self.warmup} and final_warmup {self.final_warmup}"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be at least 0 and below 1, but are {self.betas}")
        for name, layer in self._layers.items():
            if layer.rule.sparsifier == "none":
                raise ValueError(
                    f"the sparsifier of {name!r} is 'none', which keeps every entry: "
                    "adapt it with sparsifier 'released', 'paper' or 'hard'"
                )
        updates = sum(layer.pieces for layer in self._layers.values())
        if self.budget(self.total) < updates:
            raise ValueError(
                f"final_sparsity {self.final_sparsity} leaves {self.budget(self.total)} entries to "
                f"{updates} updates: lower it until each can keep one"
            )


def _wide(factor: Tensor) -> torch.dtype:
    """Type of the averages: products of small numbers need float32."""
    return torch.promote_types(factor.dtype, torch.float32)


def _size(layer: SnellFactors) -> int:
    """Entries of all updates of a layer."""
    return layer.entries * layer.pieces


def _trained_layers(model: nn.Module) -> dict[str, SnellFactors]:
    """Factors that train, by the name of the module that they adapt."""
    layers: dict[str, SnellFactors] = {}
    for path, module in model.named_modules():
        if not isinstance(module, SnellFactors) or not module.inner.requires_grad:
            continue
        name, _, rest = path.removeprefix("base_model.model.").partition(".snell_factors.")
        _, dot, part = rest.partition(".")  # of an attention: in_proj or out_proj
        name = name.removesuffix(".factors") + dot + part
        if name in layers:
            raise ValueError(
                f"two adapters of {name!r} are trained at once: a budget is for one, so freeze "
                "the others"
            )
        layers[name] = module
    if not layers:
        raise ValueError(
            f"model is a {type(model).__name__} in which no SNELL layer is trained: wrap its "
            "layers in SnellLinear, or use get_peft_model with a SnellConfig first"
        )
    return layers
