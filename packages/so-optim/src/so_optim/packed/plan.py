"""Which parameters move together in a step."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from so_optim.packed.dense import DensePack, in_portions
from so_optim.packed.pack import Draw, Pack
from so_optim.packed.state import is_due, pack_members, unpack
from so_optim.reading import Member, check_trainable
from so_optim.settings import trains_densely

__all__ = ["AnyPack", "dissolve", "form_packs", "signature"]

AnyPack = Pack | DensePack
Groups = Sequence[dict[str, Any]]
Leaves = Mapping[Tensor, Any]
States = Mapping[Tensor, Mapping[str, Any]]


def signature(groups: Groups, leaves: Leaves) -> list[Any]:
    """Tell what packs depend on: who has a gradient, and where each weight is.

    Args:
        groups: The optimizer's parameter groups.
        leaves: Leaf of each sampled parameter.

    Returns:
        Equal lists if the packs of the last step still fit.

    Raises:
        ValueError: If a gradient is sparse.
    """
    found: list[Any] = []
    for group in groups:
        found += (id(group), group["dense"])
        for index, param in enumerate(group["params"]):
            grad = param.grad
            if grad is None:
                continue
            if grad.layout is not torch.strided:
                check_trainable(next(m for m in _active(groups, leaves) if m.param is param))
            leaf = leaves.get(param) if leaves else None
            weight = param if leaf is None else leaf.weight
            found += (index, id(param), _address(weight), weight.dtype)
    return found


def form_packs(groups: Groups, leaves: Leaves, states: States, draw: Draw) -> list[AnyPack]:
    """Put together what moves together.

    Args:
        groups: The optimizer's parameter groups.
        leaves: Leaf of each sampled parameter.
        states: State of each parameter; only read.
        draw: Draws a support.

    Returns:
        Packs of all parameters with a gradient.

    Raises:
        ValueError: If SO cannot train a parameter.
    """
    together: dict[Any, list[Member]] = {}
    for member in _active(groups, leaves):
        check_trainable(member)
        together.setdefault(_key(member, states.get(member.param, {})), []).append(member)
    packs: list[AnyPack] = []
    for key, members in together.items():
        dense = key[0] == "dense"
        for part in in_portions(members) if dense else [members]:
            own = [states.get(member.param, {}) for member in part]
            packs.append(DensePack(part, own) if dense else pack_members(part, own, draw))
    return packs


def dissolve(packs: Sequence[AnyPack]) -> dict[Tensor, dict[str, Any]]:
    """Take packs apart.

    Args:
        packs: Packs of one optimizer, not used afterwards.

    Returns:
        State of each parameter that has one, in order of the parameters.
    """
    states: dict[int, dict[str, Any]] = {}
    for pack in packs:
        states |= unpack(pack) if isinstance(pack, Pack) else pack.unpack()
    params = {member.number: member.param for pack in packs for member in pack.members}
    return {params[number]: states[number] for number in sorted(states)}


def _active(groups: Groups, leaves: Leaves) -> Iterator[Member]:
    """Parameters with a gradient, in order."""
    numbered = enumerate((param, group) for group in groups for param in group["params"])
    for number, (param, group) in numbered:
        if param.grad is not None:
            leaf = leaves.get(param)
            weight = param if leaf is None else leaf.weight
            yield Member(number, param, weight, group, leaf)


def _key(member: Member, state: Mapping[str, Any]) -> tuple[Any, ...]:
    """What members of a pack share."""
    weight, group = member.weight, member.group
    dense = member.leaf is None and trains_densely(weight, group)
    steps = int(state["step"]) if state else None
    shared = (id(group), weight.device, weight.dtype, steps)
    if dense:
        return ("dense", *shared)
    if member.leaf is not None:  # its gradient was taken at the support it has, due or not
        return ("sampled", *shared, state["support_age"] if state else None)
    return ("sparse", *shared, "due" if is_due(state, group) else state["support_age"])


def _address(weight: Tensor) -> int:
    """Where a weight is; subclasses may not have an address."""
    plain = type(weight) is torch.nn.Parameter or type(weight) is Tensor
    return weight.data_ptr() if plain else id(weight)
