"""The trained part of an adapted layer: two factors, their rule and the threshold they imply."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from .functional import snell_delta, snell_linear
from .rule import SnellRule, check_choice
from .sparsify import removed_entries

__all__ = ["INITS", "SnellFactors", "check_fit"]

INITS = ("released", "zero_update")


class SnellFactors(nn.Module):
    r"""Factors `inner` and `outer`, the kernel's trained `coefficients`, the buffer `threshold`.

    The threshold is a function of the factors, the $\lceil s\,mn \rceil$-th smallest $|w|$. While
    the factors train it is found anew in every forward. Once they are frozen the stored value holds
    until the factors are written to again (in place or by `load_state_dict`), so that a reloaded or
    merged model is the one that was trained.

    Args:
        in_features: Columns `n` of the adapted weight.
        out_features: Rows of the adapted weight.
        rule: Kernel, sparsifier and their numbers.
        pieces: Row blocks with an update of their own: 3 for a fused qkv, otherwise 1.
        init: `"released"`: entries uniform in ±1/√(n·dims) and ±1/√(m·dims), not a zero update;
            `"zero_update"`: equal heads cancel (for products of rows, `outer` starts at zero).
        generator: Source of the initial values; the global one is never used.
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

    def __init__(
        self,
        in_features: int,
        out_features: int,
        rule: SnellRule,
        *,
        pieces: int = 1,
        init: str = "released",
        generator: torch.Generator,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        check_fit(in_features, out_features, rule, pieces, init)
        self.rule, self.pieces = rule, pieces
        rows = out_features // pieces
        inner = _uniform(pieces, rule, in_features, generator).to(device, dtype)
        outer = _uniform(pieces, rule, rows, generator).to(device, dtype)
        if init == "zero_update":
            inner, outer = _start_at_zero(inner, outer, rule)
        self.inner, self.outer = nn.Parameter(inner), nn.Parameter(outer)
        # One vector, not a row per piece: recipes that spare vectors from weight decay spare it.
        start = torch.tensor(rule.start * pieces, device=device, dtype=dtype)
        learned = nn.Parameter(start) if rule.trained_coefficients else None
        self.register_parameter("coefficients", learned)
        self.register_buffer("threshold", torch.zeros(pieces, device=device, dtype=dtype))
        self._threshold_of: tuple[tuple[int, int], ...] | None = None

    def forward(
        self, x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None
    ) -> Tensor:
        """`x` times the merged weight, or the branch alone where no `weight` is given."""
        y, threshold = snell_linear(
            x,
            self.inner,
            self.outer,
            self.rule,
            weight=weight,
            bias=bias,
            coefficients=self._scalars(),
            threshold=self._stored_threshold(),
        )
        self._store(threshold)
        return y

    def delta(self) -> Tensor:
        """The update `(out_features, in_features)`, float32 or wider, without gradient."""
        delta, threshold = snell_delta(
            self.inner,
            self.outer,
            self.rule,
            coefficients=self._scalars(),
            threshold=self._stored_threshold(),
        )
        self._store(threshold)
        return delta

    def _scalars(self) -> Tensor | None:
        """The trained coefficients, one row for each piece."""
        return None if self.coefficients is None else self.coefficients.view(self.pieces, -1)

    def _stored_threshold(self) -> Tensor | None:
        """The stored threshold where it still holds, else `None`."""
        trains = any(parameter.requires_grad for parameter in self.parameters())
        if trains or self._threshold_of != self._stamp():
            return None
        return self.threshold.clone()  # the buffer may be written while this step still needs it

    def _store(self, threshold: Tensor) -> None:
        """Keep the threshold, and which state of the factors it belongs to."""
        if threshold.dtype != self.threshold.dtype:
            return  # rounded to half precision it would be another threshold
        with torch.no_grad():
            self.threshold.copy_(threshold)
        self._threshold_of = self._stamp()

    def _stamp(self) -> tuple[tuple[int, int], ...]:
        """Which tensors the factors are and how often they were written to."""
        tensors = self.parameters()
        return tuple((id(t), 0 if t.is_inference() else t._version) for t in tensors)

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        if not self.inner.is_meta:
            self.delta()  # the optimizer has moved the factors since the last forward
        super()._save_to_state_dict(destination, prefix, keep_vars)

    # pyrefly: ignore[bad-override]
    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        if f"{prefix}threshold" in state_dict:
            self._threshold_of = self._stamp()

    def __getstate__(self) -> dict:
        """A copy has other factors, whose stamps mean nothing here."""
        return {**self.__dict__, "_threshold_of": None}

    def extra_repr(self) -> str:
        """Shape and rule, for `print(model)`."""
        rows, columns = self.pieces * self.outer.shape[-2], self.inner.shape[-2]
        return f"{rows}x{columns}, pieces={self.pieces}, {self.rule}"


def check_fit(in_features: int, out_features: int, rule: SnellRule, pieces: int, init: str) -> None:
    """Refuse a shape that cannot be cut into pieces, and a start from which nothing would train.

    Raises:
        ValueError: With the argument, its value and what to use instead.
    """
    if out_features % pieces:
        raise ValueError(
            f"a weight with {out_features} rows cannot be cut into {pieces} equal pieces: "
            "leave this module out of fused_modules"
        )
    entries = out_features // pieces * in_features
    if removed_entries(rule.sparsity, entries) >= entries:
        raise ValueError(
            f"sparsity {rule.sparsity} leaves none of the {entries} entries of an update: "
            f"use at most {(entries - 1) / entries:.6g} here, or do not adapt this module"
        )
    _check_init(init, rule)


def _check_init(init: str, rule: SnellRule) -> None:
    """Refuse a start from which no gradient would ever flow."""
    check_choice("init", init, INITS)
    if init == "zero_update" and not rule.similarity.zero_update:
        raise ValueError(
            f"init 'zero_update' does not exist for kernel {rule.kernel!r}, which is nowhere zero "
            "and trainable at once: use init 'released'"
        )
    if init == "zero_update" and rule.sparsity > 0:
        raise ValueError(
            f"init 'zero_update' cannot train at sparsity {rule.sparsity}: every entry ties at "
            "zero, so none survives. Use sparsity=0, or init 'released', which starts close to zero"
        )


def _uniform(pieces: int, rule: SnellRule, rows: int, generator: torch.Generator) -> Tensor:
    """Uniform in ±1/√(rows·dims): Kaiming with the release's fan-in of rows times dims."""
    bound = 1 / math.sqrt(rows * rule.dims)
    shape = (pieces, rule.head_count, rows, rule.dims)
    values = torch.rand(shape, generator=generator, dtype=torch.float64)
    return (2 * values - 1) * bound


def _start_at_zero(inner: Tensor, outer: Tensor, rule: SnellRule) -> tuple[Tensor, Tensor]:
    """Factors of a zero update that still trains: equal heads cancel, their gradients do not."""
    if rule.head_count == 1:
        return inner, torch.zeros_like(outer)
    return inner[:, :1].expand_as(inner).clone(), outer[:, :1].expand_as(outer).clone()
