"""One step of one weight: from its reading and state to its new values and state."""

from typing import Any

import torch
from torch import Tensor

from so_optim.reading import Reading, Support, read_entries, write_entries
from so_optim.update import Entries, adam_change, adam_moments_, moment_dtype, so_update

__all__ = ["apply_reading"]


def apply_reading(reading: Reading, state: dict[str, Any]) -> None:
    """Change one weight and its state.

    Args:
        reading: The parameter with its gradient, finite.
        state: Its optimizer state, empty before the first step; changed in place.
    """
    weight, group = reading.weight, reading.group
    if not state:
        state.update(_new_state(weight, dense=reading.support is None))
    state["step"] = state["step"] + 1  # not in place: a saved state may share the tensor
    grad = reading.grad.to(moment_dtype(weight))
    grad = -grad if group["maximize"] else grad
    if reading.support is None:
        _apply_dense(weight, grad, state, group)
    else:
        _apply_sparse(weight, grad, state, group, reading.support)


def _apply_dense(
    weight: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any]
) -> None:
    """Adam on every entry."""
    adam = _adam_settings(group, state)
    decay, decoupled = group["weight_decay"], group["decoupled_weight_decay"]
    wide = weight.to(grad.dtype)
    if decay and decoupled:
        wide = wide * (1 - adam["lr"] * decay)
    elif decay:
        grad = grad + decay * wide
    adam_moments_(grad, state["exp_avg"], state["exp_avg_sq"], adam["betas"])
    weight.copy_(wide - adam_change(state["exp_avg"], state["exp_avg_sq"], **adam))


def _apply_sparse(
    weight: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any], support: Support
) -> None:
    """SO on the union of kept set and support."""
    adam = _adam_settings(group, state)
    decay, decoupled = group["weight_decay"], group["decoupled_weight_decay"]
    S = support.positions
    if decay and not decoupled:
        grad = grad + decay * read_entries(weight, S).to(grad.dtype)
    kept = _kept_entries(state, group)
    kept, moved, change = so_update(kept, S, grad, prune=group["prune"], **adam)
    values = read_entries(weight, moved).to(grad.dtype)
    if decay and decoupled:
        in_support = torch.isin(moved, S).to(grad.dtype)
        values = values * (1 - adam["lr"] * decay * in_support)
    write_entries(weight, moved, values - change)
    state.update(support=S, support_age=support.age + 1, draws=support.draws)
    state.update(kept=kept.positions, exp_avg=kept.exp_avg, exp_avg_sq=kept.exp_avg_sq)
    if kept.age is not None:
        state["kept_age"] = kept.age


def _kept_entries(state: dict[str, Any], group: dict[str, Any]) -> Entries:
    """The kept set; ages are remembered only where they are used."""
    age = state.pop("kept_age", None)
    if group["bias_correction"] == "global":
        age = None
    elif age is None:  # the first step, or the option was changed midway
        age = torch.full_like(state["kept"], int(state["step"].item()) - 1)
    return Entries(state["kept"], state["exp_avg"], state["exp_avg_sq"], age)


def _adam_settings(group: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    """What Adam needs besides gradient and moments."""
    lr = group["lr"]
    if isinstance(lr, Tensor):
        lr = lr.reshape(())  # a one-element vector would not multiply a 0-D weight in place
    steps = int(state["step"].item())
    return {"steps": steps, "lr": lr, "betas": group["betas"], "eps": group["eps"]}


def _new_state(weight: Tensor, *, dense: bool) -> dict[str, Any]:
    """State before the first step; `step` is a counter on the host, as in torch's Adam."""
    dtype = moment_dtype(weight)
    step = torch.tensor(0.0)
    if dense:
        zeros = {name: torch.zeros_like(weight, dtype=dtype) for name in ("exp_avg", "exp_avg_sq")}
        return {"step": step, **zeros}
    nothing = weight.new_empty(0, dtype=torch.int64)
    empty = weight.new_empty(0, dtype=dtype)
    shape = torch.tensor(weight.shape, dtype=torch.int64)
    return {"step": step, "kept": nothing, "exp_avg": empty, "exp_avg_sq": empty, "shape": shape}
