"""What torch's optimizer loader would break: exact integers, wide moments, and silent mismatches.

`Optimizer.load_state_dict` casts every state tensor to the dtype of its parameter, so indices come
back as rounded floats and fp32 moments of bf16 weights as bf16. SO checks a saved state against its
own parameters first, lets torch load it, and then puts the exact tensors back.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor

from so_optim.settings import trains_densely
from so_optim.update import moment_dtype

__all__ = ["check_fits", "exact_state"]


WeightOf = Callable[[Tensor], Tensor]
"""The weight that a parameter of a group stands for: itself, or the one behind a leaf."""


def check_fits(
    param_groups: list[dict[str, Any]], state_dict: Mapping[str, Any], weight_of: WeightOf
) -> None:
    """Refuse a saved state of other shapes or another density.

    Args:
        param_groups: The groups of the optimizer that loads.
        state_dict: What its `load_state_dict` received.
        weight_of: The weight that a parameter stands for.

    Raises:
        ValueError: If the state belongs to other weights; torch itself checks the number of groups
            and parameters.
    """
    for number, (group, saved) in enumerate(
        zip(param_groups, state_dict["param_groups"], strict=False)
    ):
        mine, theirs = group["density_ratio"], saved.get("density_ratio", group["density_ratio"])
        if not math.isclose(mine, theirs, rel_tol=1e-9):
            raise ValueError(
                f"state_dict has density_ratio={theirs} in group {number} but this optimizer has "
                f"{mine}: build SO with density_ratio={theirs}, or start without the saved state"
            )
    for number, (param, group, saved_id) in enumerate(_pairs(param_groups, state_dict)):
        state = state_dict["state"].get(saved_id)
        weight = weight_of(param)
        if state:
            _check_state(number, weight, trains_densely(weight, group), state)


def exact_state(
    param_groups: list[dict[str, Any]], state_dict: Mapping[str, Any], weight_of: WeightOf
) -> dict[Tensor, dict[str, Any]]:
    """Copy the saved state with its integers and wide moments intact.

    Args:
        param_groups: The groups of the optimizer that loads.
        state_dict: What its `load_state_dict` received.
        weight_of: The weight that a parameter stands for.

    Returns:
        State by parameter: tensors on the parameter's device, floats in the dtype of its moments.
    """
    return {
        param: {
            key: _exact(key, value, weight_of(param))
            for key, value in state_dict["state"][saved_id].items()
        }
        for param, _, saved_id in _pairs(param_groups, state_dict)
        if saved_id in state_dict["state"]
    }


def _pairs(
    param_groups: list[dict[str, Any]], state_dict: Mapping[str, Any]
) -> Iterator[tuple[Tensor, dict[str, Any], Any]]:
    """Own parameter, own group and saved key of each, in order."""
    for group, saved in zip(param_groups, state_dict["param_groups"], strict=False):
        for param, saved_id in zip(group["params"], saved["params"], strict=False):
            yield param, group, saved_id


def _check_state(number: int, weight: Tensor, dense: bool, state: Mapping[str, Any]) -> None:
    """Refuse the state of another kind or shape."""
    if "exp_avg" not in state or ("support" in state) != ("shape" in state):
        raise ValueError(
            f"state_dict holds {sorted(state)} for parameter {number}, which SO did not save: load "
            "a state saved by SO, or start without one"
        )
    if dense != ("support" not in state):
        saved, mine = ("sparse", "dense") if dense else ("dense", "sparse")
        raise ValueError(
            f"state_dict has {saved} state for parameter {number} but this optimizer trains it "
            f"{mine}: give its group the same `dense` as when the state was saved"
        )
    shape = tuple(state["exp_avg"].shape if dense else state["shape"].tolist())
    if shape != tuple(weight.shape):
        raise ValueError(
            f"state_dict has shape {shape} for parameter {number} but the weight has "
            f"{tuple(weight.shape)}: load the state that was saved with this model"
        )


def _exact(key: str, value: Any, weight: Tensor) -> Any:
    """One saved value, copied."""
    if not isinstance(value, Tensor):
        return value
    if key == "step":  # a counter for the host, as in torch's own optimizers
        return value.detach().clone()
    dtype = moment_dtype(weight) if value.is_floating_point() else value.dtype
    return value.detach().to(device=weight.device, dtype=dtype, copy=True)
