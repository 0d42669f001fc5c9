r"""SO as it reads on paper: one dictionary per matrix, one entry at a time.

Slow and short on purpose, and shares no line with the fast optimizer: the tests hold the two
together. Symbols: $W$ weight, $g$ gradient, $S$ random support, $K$ kept set, $U = K \cup S$, $m$
and $v$ first and second moments, $t$ steps of this tensor, $\rho$ density, $T$ life of a support.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["SOReference"]


class Moment(NamedTuple):
    """What a kept entry remembers."""

    m: float
    v: float
    age: int  # steps since the entry entered


class Memory:
    """Everything SO remembers about one tensor."""

    def __init__(self) -> None:
        self.t = 0
        self.draws = 0
        self.life = 0  # steps the current support has served
        self.S: list[int] = []
        self.K: dict[int, Moment] = {}


class SOReference:
    r"""Sparse Optimization, entry by entry, for checking and for reading.

    Each step of each tensor, after redrawing $S$ if it has served $T$ steps:

    1. $g_i \leftarrow g_i + \lambda W_i$ for $i \in S$ (coupled decay);
    2. $m_i \leftarrow \beta_1 m_i + (1-\beta_1) g_i$ and
       $v_i \leftarrow \beta_2 v_i + (1-\beta_2) g_i^2$ for $i \in U$, with $g_i = 0$ outside
       $S$ and $m_i = v_i = 0$ outside $K$;
    3. $W_i \leftarrow W_i - \eta \hat m_i / (\sqrt{\hat v_i} + \varepsilon)$ for $i \in U$;
    4. $K \leftarrow$ the $k$ entries of $U$ with the largest $|m_i|$; on a tie those outside $S$ go
       first, then the lower position.

    `prune="before_update"` swaps 3 and 4 and moves only the new $K$. A dense tensor is the same
    with $S$ always everything, which is Adam.

    Args:
        params: Tensors, or groups (dicts with "params" and any setting below).
        lr: $\eta$.
        betas: $(\beta_1, \beta_2)$.
        eps: $\varepsilon$.
        weight_decay: $\lambda$.
        density_ratio: $\rho$, of each tensor; $k = \max(1, \lfloor n\rho \rfloor)$.
        T: Steps that a support lives.
        dense: Train every entry; None means "if it is not a matrix".
        prune: "after_update" (the release) or "before_update" (the paper).
        bias_correction: "global" uses $t$ for all entries (the release), "per_entry" their age.
        decoupled_weight_decay: In place of 1, $W_i \leftarrow (1-\eta\lambda) W_i$ for the
            moved $i \in S$ before 3.
        maximize: Climb instead of descend.
        supports: Called with (tensor number, draw number, n, k), gives $S$. None draws its own.
        seed: Seed of its own draws.

    Examples:
        >>> weight = torch.nn.Parameter(torch.ones(4, 5, dtype=torch.float64))
        >>> reference = SOReference([weight], lr=0.1, density_ratio=0.1, T=2)
        >>> weight.sum().backward()
        >>> reference.step()
        >>> int((weight != 1).sum())
        2

    Reference:
        Mrabah et al. 2025 (arXiv 2504.12436) and its release, whose order of 3 and 4 this is.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 2e-4,
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
        supports: Callable[[int, int, int, int], Sequence[int]] | None = None,
        seed: int = 0,
    ) -> None:
        defaults: dict[str, Any] = {
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
        }
        groups: list[Any] = list(params)
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        self.param_groups: list[dict[str, Any]] = [{**defaults, **group} for group in groups]
        self.memories: dict[int, Memory] = {}
        self._supports = supports or self._own_support
        self._generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def step(self) -> None:
        """Move every tensor that has a gradient by one step."""
        weights = [(weight, group) for group in self.param_groups for weight in group["params"]]
        for number, (weight, group) in enumerate(weights):
            if weight.grad is not None:
                self._step_one(number, weight, weight.grad, group)

    def _step_one(self, number: int, weight: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        """One step of one tensor."""
        memory = self.memories.setdefault(number, Memory())
        memory.t += 1
        self._renew_support(memory, number, weight, group)
        W: list[float] = weight.flatten().tolist()
        g = self._gradient_at_support(memory.S, W, grad, group)
        union = self._moments_on_union(memory.K, g, group["betas"])
        kept = self._prune(union, set(memory.S), len(memory.S))
        moved = union if group["prune"] == "after_update" else kept
        for i, moment in moved.items():
            if group["decoupled_weight_decay"] and i in g:
                W[i] = W[i] * (1 - group["lr"] * group["weight_decay"])
            W[i] = W[i] - self._change(moment, memory.t, group)
        memory.K = kept
        weight.copy_(torch.tensor(W, dtype=torch.float64).view(weight.shape))

    def _renew_support(
        self, memory: Memory, number: int, weight: Tensor, group: dict[str, Any]
    ) -> None:
        """Redraw S on the first step and after T steps of service."""
        n = weight.numel()
        dense = weight.ndim != 2 if group["dense"] is None else group["dense"]
        if dense:
            memory.S = list(range(n))
        elif memory.draws == 0 or memory.life == group["T"]:
            # The nearest simple fraction: 1 - 0.99995 means 1/20000.
            rho = Fraction(group["density_ratio"]).limit_denominator(10**9)
            k = max(1, math.floor(n * rho))
            memory.S = [int(i) for i in self._supports(number, memory.draws, n, k)]
            memory.draws += 1
            memory.life = 0
        memory.life += 1

    def _gradient_at_support(
        self, S: list[int], W: list[float], grad: Tensor, group: dict[str, Any]
    ) -> dict[int, float]:
        """G at S, with coupled decay."""
        gradient: list[float] = grad.flatten().tolist()
        sign = -1.0 if group["maximize"] else 1.0
        decay = 0.0 if group["decoupled_weight_decay"] else group["weight_decay"]
        return {i: sign * gradient[i] + decay * W[i] for i in S}

    def _moments_on_union(
        self, K: dict[int, Moment], g: dict[int, float], betas: tuple[float, float]
    ) -> dict[int, Moment]:
        """Moments of every entry of U."""
        beta1, beta2 = betas
        union = {}
        for i in K.keys() | g.keys():
            old = K.get(i, Moment(0.0, 0.0, 0))
            g_i = g.get(i, 0.0)
            m = beta1 * old.m + (1 - beta1) * g_i
            v = beta2 * old.v + (1 - beta2) * g_i**2
            union[i] = Moment(m, v, old.age + 1)
        return union

    def _prune(self, union: dict[int, Moment], S: set[int], k: int) -> dict[int, Moment]:
        """The k entries with the largest |m|; who coasts goes before who was just read."""
        ranked = sorted(union, key=lambda i: (-abs(union[i].m), i in S, i))
        return {i: union[i] for i in ranked[:k]}

    def _change(self, moment: Moment, t: int, group: dict[str, Any]) -> float:
        """What Adam subtracts from one entry."""
        beta1, beta2 = group["betas"]
        steps = t if group["bias_correction"] == "global" else moment.age
        m_hat = moment.m / (1 - beta1**steps)
        v_hat = moment.v / (1 - beta2**steps)
        return group["lr"] * m_hat / (math.sqrt(v_hat) + group["eps"])

    def _own_support(self, number: int, draw: int, n: int, k: int) -> Sequence[int]:
        """The first k items of a random permutation."""
        return torch.randperm(n, generator=self._generator)[:k].tolist()
