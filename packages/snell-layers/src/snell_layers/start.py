"""Where training starts: the first values of the factors, and starts that could not train."""

import math

import torch
from torch import Tensor

from .rule import SnellRule, check_choice
from .sparsify import removed_entries

__all__ = ["INITS", "check_fit", "check_shares", "first_factors"]

INITS = ("released", "zero_update")


def first_factors(
    in_features: int,
    rows: int,
    rule: SnellRule,
    *,
    pieces: int,
    init: str,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Both factors before training, float64, on the generator's device."""
    inner = _uniform(pieces, rule, in_features, generator)
    outer = _uniform(pieces, rule, rows, generator)
    return _start_at_zero(inner, outer, rule) if init == "zero_update" else (inner, outer)


def check_shares(**shares: float) -> None:
    """Refuse a probability outside [0, 1).

    Raises:
        ValueError: With the argument, its value and what to use instead.
    """
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise ValueError(
                f"{name} must be at least 0 (off) and below 1, but is {share}: it is the share of "
                "the update's input or samples that is dropped in training"
            )


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
