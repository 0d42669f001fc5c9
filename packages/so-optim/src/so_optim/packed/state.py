"""Between the state of each parameter, as users and checkpoints see it, and packs.

A parameter's state is compact: what is kept, in order of position, and the support. A pack takes
the states of its members over and gives them back; resuming from either goes on bit for bit.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from so_optim.packed.layout import Layout, build_layout
from so_optim.packed.pack import Draw, Pack
from so_optim.packed.weights import Weights, bases_of, one_vector, side_by_side
from so_optim.packed.window import Slots, compact, new_slots, open_window
from so_optim.reading import Member
from so_optim.support import support_size
from so_optim.update import moment_dtype

__all__ = ["is_due", "pack_members", "unpack", "with_support"]


def is_due(state: Mapping[str, Any], group: Mapping[str, Any]) -> bool:
    """Tell whether the coming step of a parameter needs another support.

    Args:
        state: Its state, empty before the first step.
        group: Its group.

    Returns:
        Whether it has none, or one that served `T` steps.
    """
    return not state or state["support_age"] >= group["T"]


def with_support(member: Member, state: Mapping[str, Any], draw: Draw) -> dict[str, Any]:
    """State of a parameter that knows the support of its coming step.

    Args:
        member: The parameter.
        state: Its state, empty before the first step.
        draw: Draws a support.

    Returns:
        The state with a support of age 0 if it needed one.
    """
    if not is_due(state, member.group):
        return dict(state)
    draws = state["draws"] if state else 0
    n = member.weight.numel()
    k = coming_size(member, {})
    support = draw(member.group["seed"], member.number, draws, n, k).to(member.weight.device)
    new = dict(state) or _nothing(member.weight)
    new.pop("support_value", None)
    return {**new, "support": support, "support_age": 0, "draws": draws + 1}


def coming_size(member: Member, state: Mapping[str, Any]) -> int:
    """Size of the support of the coming step.

    Args:
        member: The parameter.
        state: Its state, if its support goes on; else empty.

    Returns:
        $k$.
    """
    if state:
        return len(state["support"])
    if member.leaf is not None:  # a leaf cannot change its length
        return len(member.param)
    return support_size(member.weight.numel(), member.group["density_ratio"])


def pack_members(
    members: Sequence[Member], states: Sequence[Mapping[str, Any]], draw: Draw
) -> Pack:
    """Take over members of equal step count and support age.

    Args:
        members: The members, of one group, device and dtype.
        states: State of each; only read.
        draw: Draws a support.

    Returns:
        The pack.
    """
    group, sampled = members[0].group, members[0].leaf is not None
    due = is_due(states[0], group) and not (sampled and states[0])
    sizes = [coming_size(m, {} if due else state) for m, state in zip(members, states, strict=True)]
    order = sorted(range(len(members)), key=lambda i: (sizes[i], members[i].number))
    members, states = [members[i] for i in order], [states[i] for i in order]
    weights = [member.weight for member in members]
    flat = one_vector(weights) if sampled or len(weights) > 1 else None
    if flat is None and sampled:  # the model was copied, cast or moved since it was sampled
        side_by_side(weights)
        flat = one_vector(weights)
    layout = build_layout(
        sorted(sizes), [w.numel() for w in weights], bases_of(weights, flat), weights[0].device
    )
    dtype = moment_dtype(weights[0])
    slots = new_slots(layout, dtype, wide_values=dtype != weights[0].dtype)
    access = Weights(weights, layout, flat)
    _take_kept(slots, layout, states, access, group)
    if not due:
        _take_support(slots, layout, states, access)
    steps = int(states[0]["step"]) if states[0] else 0
    age = None if due else states[0]["support_age"]
    draws = [state["draws"] if state else 0 for state in states]
    pack = Pack(members, layout, access, slots, steps, age, draws, draw)
    if due:
        found = zip(members, states, strict=True)
        pack.unchanged = {member.number: dict(state) for member, state in found if state}
    return pack


def unpack(pack: Pack) -> dict[int, dict[str, Any]]:
    """Give every member its state back.

    Args:
        pack: A pack, not used afterwards.

    Returns:
        State by number of the parameter; a member that never had a support has none.
    """
    if pack.unchanged is not None:
        return pack.unchanged
    slots, layout = pack.slots, pack.layout
    kept = compact(slots, layout, layout.members())
    owned = (kept.key % 2 == 0).cpu()
    columns = {"kept": slots.positions, "exp_avg": slots.moments[0], "exp_avg_sq": slots.moments[1]}
    columns |= {"kept_age": slots.age, "kept_value": slots.value}
    found = {
        name: buffer.view(-1).index_select(0, kept.slot)
        for name, buffer in columns.items()
        if buffer is not None
    }
    steps = pack.clock.steps.to("cpu", torch.float32)
    parts = zip(pack.members, layout.slices(), layout.bases, pack.draws, strict=True)
    states = {}
    for member, part, base, draws in parts:
        first = slice(part.start, part.start + int(owned[part].sum()))
        states[member.number] = {
            "step": steps.clone(),
            "shape": torch.tensor(member.weight.shape, dtype=torch.int64),
            "support": slots.positions[1, part].long() - base,
            "support_age": pack.age,
            "draws": draws,
            **{name: _own(name, column[first], base) for name, column in found.items()},
        }
        if slots.value is not None:
            states[member.number]["support_value"] = slots.value[1, part].clone()
    return states


def _own(name: str, column: Tensor, base: int) -> Tensor:
    """One column of one member, in a storage of its own; integers are int64."""
    if column.is_floating_point():
        return column.clone()
    return column.long() - (base if name == "kept" else 0)


def _nothing(weight: Tensor) -> dict[str, Any]:
    """State of a sparse weight before its first step."""
    empty = weight.new_empty(0, dtype=moment_dtype(weight))
    return {
        "step": torch.tensor(0.0),
        "shape": torch.tensor(weight.shape, dtype=torch.int64),
        "kept": weight.new_empty(0, dtype=torch.int64),
        "exp_avg": empty,
        "exp_avg_sq": empty.clone(),
    }


def _take_kept(
    slots: Slots,
    layout: Layout,
    states: Sequence[Mapping[str, Any]],
    weights: Weights,
    group: Mapping[str, Any],
) -> None:
    """Fill row 0; a kept set that is larger than its slots loses its least important entries."""
    if group["bias_correction"] == "per_entry" and all("kept_age" in state for state in states):
        slots.age = torch.zeros_like(slots.positions, dtype=torch.int32)
    names = {"exp_avg": slots.moments[0], "exp_avg_sq": slots.moments[1]}
    names |= {"kept_age": slots.age, "kept_value": slots.value}
    for i, state in enumerate(states):
        if not state or len(state["kept"]) == 0:
            continue
        index = _survivors(state["exp_avg"], layout.sizes[i])
        part = slice(layout.starts[i], layout.starts[i] + len(index))
        slots.positions[0, part] = state["kept"][index] + layout.bases[i]
        for name, buffer in names.items():
            if buffer is None:
                continue
            if name in state:
                buffer[0, part] = state[name][index].to(buffer.dtype)
            else:  # saved by a wider weight
                weight = weights.weights[i].detach().reshape(-1)
                buffer[0, part] = weight[state["kept"][index]].to(buffer.dtype)


def _survivors(exp_avg: Tensor, k: int) -> Tensor:
    """Which of a member's kept entries fit into `k` slots, in order."""
    if len(exp_avg) <= k:
        return torch.arange(len(exp_avg), device=exp_avg.device)
    return exp_avg.abs().argsort(descending=True, stable=True)[:k].sort().values


def _take_support(
    slots: Slots, layout: Layout, states: Sequence[Mapping[str, Any]], weights: Weights
) -> None:
    """Fill row 1 with the supports that go on."""
    each = [state["support"] + base for state, base in zip(states, layout.bases, strict=True)]
    support = torch.cat(each).to(layout.table.device, layout.index_dtype)
    open_window(slots, layout, support, None if slots.value is None else weights.read(support))
    if slots.value is not None:
        for state, part in zip(states, layout.slices(), strict=True):
            if "support_value" in state:
                slots.value[1, part] = state["support_value"].to(slots.value.dtype)
