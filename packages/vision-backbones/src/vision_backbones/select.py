"""Which blocks and which layers: positions such as "top3", roles such as "q"."""

from __future__ import annotations

import re
from collections.abc import Sequence

ROLES = ("q", "k", "v", "out", "fc1", "fc2")
TOWERS = ("image", "text", "both")
HELP = "all, top, topN, bottomN, bottom, mid, up, half-bottom, half-up, or indices such as 0,3,-1"

# The last part of a layer's name, or its last two parts, and the roles that the layer plays.
NAMES: dict[str, tuple[str, ...]] = {
    "qkv": ("q", "k", "v"), "in_proj_weight": ("q", "k", "v"), "proj": ("out",),
    "q_proj": ("q",), "k_proj": ("k",), "v_proj": ("v",), "out_proj": ("out",), "o_proj": ("out",),
    "query": ("q",), "key": ("k",), "value": ("v",), "attention.output.dense": ("out",),
    "q_lin": ("q",), "k_lin": ("k",), "v_lin": ("v",), "out_lin": ("out",),
    "fc1": ("fc1",), "c_fc": ("fc1",), "intermediate.dense": ("fc1",), "lin1": ("fc1",),
    "gate_proj": ("fc1",), "up_proj": ("fc1",),
    "fc2": ("fc2",), "c_proj": ("fc2",), "output.dense": ("fc2",), "lin2": ("fc2",),
    "down_proj": ("fc2",),
}  # fmt: skip


def roles_of(name: str) -> tuple[str, ...]:
    """What a layer does inside its block.

    Args:
        name: Dotted name of a layer or of its weight, adapters' `base_layer` included.

    Returns:
        Some of `q`, `k`, `v`, `out`, `fc1` and `fc2`; several for a packed projection (`qkv`, or
        LLaMA's gate, which counts as `fc1`); none for any other layer.

    Examples:
        >>> roles_of("model.blocks.0.attn.qkv"), roles_of("layer.3.attention.output.dense.weight")
        (('q', 'k', 'v'), ('out',))
    """
    parts = [p for p in name.split(".") if p not in ("weight", "base_layer")]
    for length in (3, 2, 1):
        if roles := NAMES.get(".".join(parts[-length:])):
            return roles
    return ()


def positions(selector: str, count: int) -> list[int]:
    r"""Indices of the blocks that a selector names, of `count` in order from input to output.

    `half-up` is the upper half $\lfloor n/2 \rfloor \dots n-1$, `half-bottom` the rest; `bottom`,
    `mid` and `up` are thirds; `top` is the last block, `topN` the last N, `bottomN` the first N.

    Args:
        selector: A word or indices, see above.
        count: Number of blocks.

    Returns:
        Indices, ascending.

    Raises:
        ValueError: The selector is unknown, or names more blocks than there are.

    Examples:
        >>> positions("top3", 12), positions("half-up", 4), positions("0,-1", 12)
        ([9, 10, 11], [2, 3], [0, 11])
    """
    half, third = count // 2, count // 3
    words = {
        "all": (0, count), "top": (count - 1, count), "half-up": (half, count),
        "half-bottom": (0, half), "bottom": (0, third), "mid": (third, 2 * third),
        "up": (2 * third, count),
    }  # fmt: skip
    if selector in words:
        return list(range(*words[selector]))
    if match := re.fullmatch(r"(top|bottom)(\d+)", selector):
        number = int(match[2])
        if 1 <= number <= count:
            return list(range(count))[-number:] if match[1] == "top" else list(range(number))
        raise ValueError(
            f"blocks={selector!r} asks for {number} of {count} blocks: use 1 to {count}"
        )
    if re.fullmatch(r"-?\d+(,-?\d+)*", selector):
        return _indices(selector, count)
    raise ValueError(f"unknown blocks={selector!r}: known are {HELP}")


def checked_roles(roles: Sequence[str]) -> tuple[str, ...]:
    """Roles, each of which must be known.

    Args:
        roles: Some of `ROLES`.

    Raises:
        ValueError: One is unknown.

    Examples:
        >>> checked_roles(["q", "v"])
        ('q', 'v')
    """
    asked = tuple(roles)
    if isinstance(roles, str) or not asked or not set(asked) <= set(ROLES):
        raise ValueError(f"unknown roles={roles!r}: give a list with some of {', '.join(ROLES)}")
    return asked


def _indices(selector: str, count: int) -> list[int]:
    """Blocks by number, negative ones from the end."""
    numbers = [int(part) for part in selector.split(",")]
    for number in numbers:
        if not -count <= number < count:
            raise ValueError(f"blocks={selector!r} names block {number}, but there are {count}")
    return sorted({number % count for number in numbers})
