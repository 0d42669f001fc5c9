"""Which tensors of a model a delta means, and whether they are what it was made from.

A part of a delta has the dtype, the shape and the hash of its tensor in the base.
"""

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from so_optim.delta.part import Part, digest, flipped

__all__ = [
    "check_content",
    "check_layout",
    "plain_tensors",
    "targets",
    "tied_names",
]


def plain_tensors(source: nn.Module | Mapping[str, Any]) -> dict[str, Tensor]:
    """Read the tensors of a model or state dict without copying them.

    Args:
        source: A module, whose `state_dict` decides what belongs to it, or a state dict. Values
            that are not tensors (extra states) are left out.

    Returns:
        Tensors by name, sharing memory with the source.

    Raises:
        ValueError: If a tensor is sharded, quantised, sparse, without memory or wider than 8 bytes.
    """
    state = source.state_dict() if isinstance(source, nn.Module) else source
    tensors = {name: value.detach() for name, value in state.items() if isinstance(value, Tensor)}
    for name, tensor in tensors.items():
        kind = type(tensor).__name__ if type(tensor) is not Tensor else str(tensor.layout)
        if kind != "torch.strided" or tensor.is_quantized or tensor.is_meta:
            raise ValueError(
                f"tensor {name!r} is not plain memory ({kind} on {tensor.device}): gather or "
                "dequantise the weights and pass them as a state dict of plain tensors"
            )
        if tensor.dtype.itemsize > 8:
            raise ValueError(
                f"tensor {name!r} is {tensor.dtype}, wider than 8 bytes an entry: leave it out"
            )
    return tensors


def tied_names(tensors: Mapping[str, Tensor]) -> list[list[str]]:
    """Group names whose tensors are the same memory, seen the same way.

    Args:
        tensors: Tensors by name. Only a dict holds them all at once; those of a file, which are
            read one by one, are never tied.

    Returns:
        Groups in order of their first name; most hold one.
    """
    if not isinstance(tensors, dict):
        return [[name] for name in tensors]
    groups: dict[Any, list[str]] = {}
    for name, tensor in tensors.items():
        seen = (tensor.data_ptr(), tensor.device, tensor.dtype, tensor.shape, tensor.stride())
        groups.setdefault(seen if tensor.numel() else name, []).append(name)
    return list(groups.values())


def check_layout(parts: Iterable[Part], tensors: Mapping[str, Tensor], what: str) -> None:
    """Refuse tensors of other names, shapes or dtypes than the base had.

    Args:
        parts: The delta.
        tensors: The model's tensors; those that are new in the delta may be missing.
        what: What to call the model in messages.

    Raises:
        ValueError: Naming the first tensor that is missing, unknown or different.
    """
    known = {name for part in parts for name in part.names}
    for part in parts:
        present = [name for name in part.names if name in tensors]
        if not present and part.new is None:
            raise ValueError(
                f"{what} lacks tensor {part.name!r}, which the base of this delta has"
                f"{_closest(part.name, tensors)}: pass the model this delta was made from"
            )
        for name in present:
            _check_kind(name, part, tensors[name], what)
    for name in tensors:
        if name not in known:
            raise ValueError(
                f"{what} has tensor {name!r}, which the base of this delta lacks"
                f"{_closest(name, known)}: pass the model this delta was made from, or a state "
                "dict without it"
            )


def targets(part: Part, tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """The distinct tensors that a part is to be written to.

    Args:
        part: Part of a delta.
        tensors: The model's tensors.

    Returns:
        One tensor for each memory: one if the model ties all names, several if it does not.
    """
    mine = {name: tensors[name] for name in part.names if name in tensors}
    return [mine[names[0]] for names in tied_names(mine)]


def check_content(part: Part, tensor: Tensor, *, applied: bool, what: str = "model") -> None:
    """Refuse a tensor that is not the base, or not the base with the delta applied.

    Args:
        part: A part with changes.
        tensor: The model's tensor.
        applied: Whether the delta should be applied.
        what: What to call the model in messages.

    Raises:
        ValueError: If the content is something else.
    """
    if digest(flipped(part, tensor) if applied else tensor) == part.digest:
        return
    found = digest(tensor)
    if applied and found == part.digest:
        raise ValueError(
            f"{what} holds the base in {part.name!r}: this delta is not applied, call apply first"
        )
    if applied:
        raise ValueError(
            f"{what} has changed in {part.name!r} since this delta was applied, so reverting would "
            "not give the base back: load the base weights instead"
        )
    if digest(flipped(part, tensor)) == part.digest:
        raise ValueError(
            f"{what} has this delta applied already (in {part.name!r}): call revert first"
        )
    raise ValueError(
        f"{what} has other content in {part.name!r} than the base of this delta (hash {found}, not "
        f"{part.digest}): load that base; if another delta is applied, revert it and apply "
        "stack([...], base)"
    )


def _check_kind(name: str, part: Part, tensor: Tensor, what: str) -> None:
    """Refuse another shape or dtype."""
    if tuple(tensor.shape) != part.shape:
        raise ValueError(
            f"{what} has shape {tuple(tensor.shape)} in {name!r} but the delta {part.shape}: pass "
            "the model this delta was made from"
        )
    if tensor.dtype != part.dtype:
        raise ValueError(
            f"{what} has dtype {tensor.dtype} in {name!r} but the delta {part.dtype}: cast the "
            f"base to {part.dtype} as it was when the delta was made"
        )


def _closest(name: str, names: Collection[str]) -> str:
    """A hint at a name that differs by a wrapper's prefix or a few letters."""
    wrapped = [other for other in names if f".{other}".endswith(f".{name}")]
    wrapped += [other for other in names if f".{name}".endswith(f".{other}")]
    close = wrapped or difflib.get_close_matches(name, names, n=1)
    return f" (the closest name is {close[0]!r})" if close else ""
