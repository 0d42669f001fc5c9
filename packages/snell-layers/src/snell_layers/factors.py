"""The trained part of an adapted layer: two factors, their rule and the threshold they imply."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .functional import snell_delta, snell_linear
from .rule import SnellRule
from .sparsify import removed_entries
from .start import check_fit, check_shares, first_factors

__all__ = ["SnellFactors"]


class SnellFactors(nn.Module):
    r"""Factors `inner` and `outer`, the kernel's trained `coefficients`, the buffer `threshold`.

    The threshold is a function of the factors, the $\lceil s\,mn \rceil$-th smallest $|w|$. While
    the factors train it is found anew in every forward. Once they are frozen the stored value holds
    until the factors are written to again (in place or by `load_state_dict`), so that a reloaded or
    merged model is the one that was trained.

    How many entries survive may change while training (`keep`, as SNELLA's allocator does). The
    buffer `kept` records it, so a checkpoint or an averaged copy of the model has it too.

    Args:
        in_features: Columns `n` of the adapted weight.
        out_features: Rows of the adapted weight.
        rule: Kernel, sparsifier and their numbers.
        pieces: Row blocks with an update of their own: 3 for a fused qkv, otherwise 1.
        init: `"released"`: entries uniform in ±1/√(n·dims) and ±1/√(m·dims), not a zero update;
            `"zero_update"`: equal heads cancel (for products of rows, `outer` starts at zero).
        generator: Source of the initial values; the global one is never used for them.
        dropout: Share of the input that the update does not see, in training. Not mergeable: the
            update becomes a second operand, 5 products a step instead of 3, and backward keeps the
            masked input and its mask.
        drop_path: Share of samples (of the first dimension) without the update, in training; the
            others get it divided by the share that is left. Still 3 products: both kinds of samples
            are gathered, multiplied with their own weight and put back, and backward keeps indices.
            One draw for all pieces.
        device: Where the factors live; the values are drawn on the generator's device first.
        dtype: Type of the factors; float32 unless the weight is wider.

    Raises:
        ValueError: If `pieces` does not divide `out_features`, no entry would survive, or `init` is
            unknown or cannot train with this rule.
    """

    inner: nn.Parameter
    outer: nn.Parameter
    coefficients: nn.Parameter | None
    threshold: Tensor
    kept: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        rule: SnellRule,
        *,
        pieces: int = 1,
        init: str = "released",
        generator: torch.Generator,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        check_fit(in_features, out_features, rule, pieces, init)
        self.rule, self.pieces = rule, pieces
        check_shares(dropout=dropout, drop_path=drop_path)
        self.dropout, self.drop_path = dropout, drop_path
        self.again = False  # `snell_layers.recompute` may ask for outputs that can be made again
        inner, outer = (
            factor.to(device, dtype)
            for factor in first_factors(
                in_features,
                out_features // pieces,
                rule,
                pieces=pieces,
                init=init,
                generator=generator,
            )
        )
        self.inner, self.outer = nn.Parameter(inner), nn.Parameter(outer)
        # One vector, not a row per piece: recipes that spare vectors from weight decay spare it.
        start = torch.tensor(rule.start * pieces, device=device, dtype=dtype)
        learned = nn.Parameter(start) if rule.trained_coefficients else None
        self.register_parameter("coefficients", learned)
        self.register_buffer("threshold", torch.zeros(pieces, device=device, dtype=dtype))
        self._threshold_of: tuple[tuple[int, int], ...] | None = None
        kept = self.entries - removed_entries(rule.sparsity, self.entries)
        self.register_buffer("kept", torch.tensor(kept, device=device))
        self._kept_of: tuple[tuple[int, int], ...] | None = _stamp(self.kept)

    @property
    def entries(self) -> int:
        """Entries of the update of one piece."""
        return self.outer.shape[-2] * self.inner.shape[-2]

    def keep(self, entries: int) -> None:
        """Let that many entries of every piece survive from now on, instead of a share.

        Raises:
            ValueError: If none or more than all would survive, or the sparsifier removes none.
        """
        if not 1 <= entries <= self.entries:
            raise ValueError(
                f"entries must be at least 1 and at most {self.entries}, the size of one update, "
                f"but is {entries}"
            )
        with torch.no_grad():
            self.kept.fill_(entries)
        self._follow_kept()

    def forward(
        self, x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None
    ) -> Tensor:
        """`x` times the merged weight, or the branch alone where no `weight` is given."""
        if not self.training:  # in training `keep` is the only writer: the device is not asked
            self._follow_kept()
        if self.training and self.dropout:
            branch = self._linear(F.dropout(x, self.dropout), None, None)
            return branch if weight is None else F.linear(x, weight, bias) + branch
        return self._linear(x, weight, bias)

    def _linear(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        """The autograd function with this layer's state."""
        if x.dim() == 1 and self.drop_path:
            return self._linear(x.unsqueeze(0), weight, bias).squeeze(0)  # one sample
        samples = self._draw_samples(x)
        y, threshold = snell_linear(
            x,
            self.inner,
            self.outer,
            self.rule,
            weight=weight,
            bias=bias,
            coefficients=self._scalars(),
            threshold=self._stored_threshold(),
            hint=self.threshold,
            samples=samples,
            scale=1.0 if samples is None else 1 / (1 - self.drop_path),
            again=self.again,
        )
        self._store(threshold)
        return y

    def _draw_samples(self, x: Tensor) -> Tensor | None:
        """Samples that get the update in this step; `None` where none is dropped."""
        if not self.training or not self.drop_path:
            return None
        # As nn.Dropout, from torch's own generator: activation checkpointing, resumed Trainers and
        # processes side by side all look after that one. On the CPU, so that nobody has to wait.
        return (torch.rand(len(x)) >= self.drop_path).nonzero().flatten()

    def delta(self) -> Tensor:
        """The update `(out_features, in_features)`, float32 or wider, without gradient."""
        self._follow_kept()
        delta, threshold = snell_delta(
            _whole(self.inner),
            _whole(self.outer),
            self.rule,
            coefficients=self._scalars(),
            threshold=self._stored_threshold(),
            hint=self.threshold,
        )
        self._store(threshold)
        return delta

    def _scalars(self) -> Tensor | None:
        """The trained coefficients, one row for each piece."""
        scalars = self.coefficients
        return None if scalars is None else _whole(scalars).view(self.pieces, -1)

    def _stored_threshold(self) -> Tensor | None:
        """The stored threshold where it still holds, else `None`."""
        trains = any(parameter.requires_grad for parameter in self.parameters())
        if (
            trains
            or torch.compiler.is_compiling()
            or self._threshold_of != _stamp(*self.parameters())
        ):
            return None
        return self.threshold.clone()  # the buffer may be written while this step still needs it

    def _store(self, threshold: Tensor) -> None:
        """Keep the threshold, and which state of the factors it belongs to."""
        if threshold.dtype != self.threshold.dtype:
            return  # rounded to half precision it would be another threshold
        with torch.no_grad():
            self.threshold.copy_(threshold)
        # A compiled graph cannot look at stamps, and finds the same threshold anew instead.
        compiling = torch.compiler.is_compiling()
        self._threshold_of = None if compiling else _stamp(*self.parameters())

    def _follow_kept(self) -> None:
        """Take the sparsity from the buffer if it was written to, as by an averaged model."""
        if self.kept.is_meta or self._kept_of == _stamp(self.kept):
            return
        removed = self.entries - int(self.kept)
        if removed != removed_entries(self.rule.sparsity, self.entries):
            self.rule = replace(self.rule, sparsity=removed / self.entries)
            self._threshold_of = None
        self._kept_of = _stamp(self.kept)

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        if not self.inner.is_meta:
            self.delta()  # the optimizer has moved the factors since the last forward
        super()._save_to_state_dict(destination, prefix, keep_vars)

    # pyrefly: ignore[bad-override]
    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        errors: list[str] = args[-1]
        if f"{prefix}kept" in state_dict and not errors:
            self._follow_kept()
        if f"{prefix}threshold" in state_dict:
            self._threshold_of = _stamp(*self.parameters())

    def __getstate__(self) -> dict:
        """A copy has other tensors, for which these stamps mean nothing."""
        return {**self.__dict__, "_threshold_of": None, "_kept_of": None}

    def extra_repr(self) -> str:
        """Shape and rule, for `print(model)`."""
        rows, columns = self.pieces * self.outer.shape[-2], self.inner.shape[-2]
        dropped = {"dropout": self.dropout, "drop_path": self.drop_path}
        shown = "".join(f", {name}={share}" for name, share in dropped.items() if share)
        return f"{rows}x{columns}, pieces={self.pieces}, {self.rule}{shown}"


def _whole(tensor: Tensor) -> Any:
    """All of a tensor that `fully_shard` spread over processes, which must all ask for it."""
    gather = getattr(tensor, "full_tensor", None)  # of a DTensor, whose module is slow to import
    return tensor if gather is None else gather()


def _stamp(*tensors: Tensor) -> tuple[tuple[int, int], ...]:
    """Which tensors these are and how often they were written to."""
    return tuple((id(t), 0 if t.is_inference() else t._version) for t in tensors)
