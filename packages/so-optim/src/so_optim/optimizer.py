"""The optimizer class: settings, state and checkpoints.

While steps are taken all moments lie in packs (`packed/step.py`). Reading `state` takes the packs
apart, so there is one truth at any time.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from so_optim.checkpoint import check_fits, exact_state
from so_optim.packed.state import with_support
from so_optim.packed.step import PackedStep
from so_optim.reading import Member
from so_optim.sampled.leaf import Leaf, check_own
from so_optim.sampled.sampling import Sampling
from so_optim.settings import check_settings
from so_optim.support import draw_support, support_stream

__all__ = ["SO"]


class SO(Optimizer):
    r"""Sparse Optimization: Adam on a random, moving support of each matrix.

    Every $T$ steps a matrix of $n$ entries draws $k = \max(1, \lfloor n\rho \rfloor)$ random
    positions $S$. A step updates Adam's moments on the union $U = K \cup S$ with the kept set $K$,
    moves the weights there,

    $$W_U \leftarrow W_U - \eta \, \hat m_U / (\sqrt{\hat v_U} + \varepsilon),$$

    and keeps as next $K$ the $k$ entries of $U$ with the largest $|m|$ (on a tie those outside
    $S$, then the lower position). All other entries stay as they are, bit for bit. Parameters that
    are not matrices are trained by plain Adam unless their group says otherwise. At density 1, SO
    is Adam with coupled weight decay.

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
            out the whole step. Either way nothing is changed. On an accelerator, where the host
            does not wait for the step, "raise" comes with a later step.
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
        self._leaves: dict[Tensor, Leaf] = {}  # of sampled parameters
        super().__init__(params, defaults)

    @property
    def state(self) -> Any:
        """State of each parameter; reading it takes the packs apart until the next step."""
        self._packed.dissolve(self.__dict__["state"])
        return self.__dict__["state"]

    @state.setter
    def state(self, state: Any) -> None:
        self._packed = PackedStep()
        self.__dict__["state"] = state

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, checking its settings first.

        Args:
            param_group: Dict with "params" and any setting that differs from the defaults.

        Raises:
            ValueError: If a setting is not allowed.
        """
        check_settings({**self.defaults, **param_group})
        self._packed.dissolve(self.__dict__["state"])
        super().add_param_group(param_group)
        try:
            check_own(self.param_groups[-1:], self._leaves)
        except ValueError:
            del self.param_groups[-1]
            raise

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue a saved run bit for bit, supports and moments included.

        Args:
            state_dict: What `state_dict()` gave, of the same shapes and density.

        Raises:
            ValueError: If it belongs to other weights or another density.
        """
        check_fits(self.param_groups, state_dict, self._weight_of)
        super().load_state_dict(state_dict)
        self.state.update(exact_state(self.param_groups, state_dict, self._weight_of))
        for param, leaf in self._leaves.items():
            leaf.set_support(self.coming_support(param))

    def sample_gradients(self, model: nn.Module, *, memory: str = "free") -> Sampling:
        r"""Compute the gradients of this optimizer's matrices at their supports alone.

        Each weight that has a support becomes a frozen tensor with a compact leaf of $k$ zeros
        beside it, whose gradient is $(\nabla W)_S$ by a sampled dense-dense product; the leaf takes
        the weight's place in `param_groups`. No dense gradient exists, layers keep less for
        backward, and gradient clipping, GradScaler, accumulation and DDP handle $k$ values. The
        supports and, up to rounding, the trajectory are those of the dense gradient.

        Linear layers, embeddings, patch embeddings, packed attention and Hugging Face's `Conv1D`
        take part; any other use of a weight forms its dense gradient for a moment. The model's
        state dict, names and classes stay as they are. Wrap in DDP and compile afterwards.

        Args:
            model: Holds this optimizer's weights; changed in place until `undo`.
            memory: What backward keeps. "free": as little as a frozen network, at no cost in time.
                "low": MLPs are rebuilt (about a sixth more time). "minimal": queries, keys and
                values too (about three tenths).

        Returns:
            What was done: `undo()` reverts it, so does leaving it as a context manager, and its
            `repr` tells which path each weight took.

        Raises:
            ValueError: If the model is sampled or wrapped already, or holds other weights.

        Examples:
            >>> model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Linear(32, 2))
            >>> optimizer = SO(model.parameters(), lr=1e-3, density_ratio=0.01)
            >>> with optimizer.sample_gradients(model):
            ...     model(torch.ones(8, 64)).square().mean().backward()
            ...     shape = model[0].weight_at_support.grad.shape
            ...     optimizer.step()
            >>> shape  # 1 % of 64 x 32
            torch.Size([20])
        """
        return Sampling(self, model, memory)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_leaves": self._leaves}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.state = self.__dict__["state"]
        self.__dict__.setdefault("_leaves", {})
        for group in self.param_groups:  # settings that a state saved earlier did not know
            for name, value in self.defaults.items():
                group.setdefault(name, value)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every parameter that has a gradient by one step.

        The work on the device needs nothing from the host, so a CUDA graph may capture it. While
        one is captured nothing else happens; call `advance` after each replay.

        Args:
            closure: Recomputes the loss with gradients, as for any torch optimizer.

        Returns:
            What the closure returned, or None.

        Raises:
            ValueError: If a gradient is sparse, or not finite where `nonfinite="raise"`.
            RuntimeError: If a CUDA graph is captured while supports are due.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._packed.raise_late()
        check_own(self.param_groups, self._leaves)
        self._packed.form(self.param_groups, self._leaves, self.__dict__["state"], self._draw)
        captured = self._packed.is_captured()
        if self._packed.move() and not captured:
            self._packed.count()
        return loss

    @torch.no_grad()
    def advance(self, steps: int = 1) -> None:
        """Do the host's part of a step that a CUDA graph replayed: count it, and draw supports.

        Supports are written where the graph reads them.

        Args:
            steps: Steps replayed since the last call; 0 draws what is due before a capture.
        """
        self._packed.raise_late()
        self._packed.advance(steps)

    @torch.no_grad()
    def coming_support(self, param: Tensor) -> Tensor:
        """Support that the next step of a parameter uses, drawn now if need be.

        Args:
            param: A parameter of a group, trained on a support.

        Returns:
            Row-major flat positions, ascending, shape `(k,)`, int64.

        Raises:
            ValueError: If the parameter is in no group.
        """
        numbered = enumerate((p, group) for group in self.param_groups for p in group["params"])
        for number, (own, group) in numbered:
            if own is param:
                leaf = self._leaves.get(own)
                member = Member(number, own, self._weight_of(own), group, leaf)
                self.state[own] = with_support(member, self.state.get(own, {}), self._draw)
                return self.state[own]["support"]
        raise ValueError(
            f"param of shape {tuple(param.shape)} is in no group of this optimizer: pass one of "
            "optimizer.param_groups[i]['params']"
        )

    def _exchange(self, old: Tensor, new: Tensor, leaf: Leaf | None) -> None:
        """Put a leaf in the place of its weight, or the weight back."""
        state = self.state
        for group in self.param_groups:
            group["params"] = [new if param is old else param for param in group["params"]]
        if old in state:
            state[new] = state.pop(old)
        self._leaves.pop(old, None)
        if leaf is not None:
            self._leaves[new] = leaf

    def _weight_of(self, param: Tensor) -> Tensor:
        """The weight that a parameter stands for."""
        leaf = self._leaves.get(param)
        return param if leaf is None else leaf.weight

    def _draw(self, seed: int, number: int, draw: int, n: int, k: int) -> Tensor:
        """Draw number `draw` of parameter `number`; subclasses may inject other supports."""
        return draw_support(n, k, support_stream(seed, number, draw))
