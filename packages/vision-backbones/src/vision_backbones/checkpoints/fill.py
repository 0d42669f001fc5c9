"""A backbone filled from a file: all of it or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from vision_backbones.checkpoints.formats import Format, format_of
from vision_backbones.checkpoints.looks import Looks, looks_of
from vision_backbones.checkpoints.read import Stored, read
from vision_backbones.checkpoints.resize import misfits, resized
from vision_backbones.heads import linear_head
from vision_backbones.split import join_split_keys

if TYPE_CHECKING:
    from vision_backbones.backbone import Backbone

State = dict[str, torch.Tensor]
SHOWN = 3
SizeNames = Callable[[Looks], list[str]]


def load_into(
    backbone: Backbone,
    source: Path | Stored,
    *,
    resize: bool = False,
    names_of: SizeNames | None = None,
) -> None:
    """Fill a backbone from a file, all of it or nothing.

    The file is of any format in `FORMATS`, or a whole backbone's (`model.…` and perhaps `head.…`,
    with packed or split attention). A linear head in the file replaces class prompts.

    Args:
        backbone: Changed in place, only if everything fits.
        source: The file, or what was read from it.
        resize: Interpolate position embeddings made for another number of patches.
        names_of: From what a file looks like to the backbones that look like it, for the message.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Names or shapes differ; the message lists the first of each.
    """
    stored = read(source) if isinstance(source, Path) else source
    known = format_of(stored)
    state = known.convert(stored.state)
    head: State = {}
    if known.name == "whole":
        head = {n.removeprefix("head."): t for n, t in state.items() if n.startswith("head.")}
        state = {n.removeprefix("model."): t for n, t in state.items() if n.startswith("model.")}
    body = join_split_keys(state)
    if resize:
        body = resized(body, backbone.model)
    problems = differences(body, backbone.model)
    if head and not problems:
        fitting = linear_head(backbone.spec.width, backbone.classes)
        problems = differences(head, fitting, "head.")
    if problems:
        hints = _hints(backbone, stored, known, body, names_of)
        raise ValueError(
            f"checkpoint '{stored.path}' does not fit {backbone.spec.name}: {problems}; nothing "
            f"was loaded. {hints}"
        )
    backbone.model.load_state_dict(body)
    if head:
        backbone.use_linear_head()
        backbone.head.load_state_dict(head)


def differences(state: Mapping[str, torch.Tensor], module: nn.Module, prefix: str = "") -> str:
    """What keeps `state` from filling `module`, in words; empty if nothing does.

    Args:
        state: Tensors by name.
        module: What they should fill.
        prefix: Put before every name in the answer.

    Returns:
        Missing, unexpected and differently shaped names, each with a count and the first few.
    """
    own = module.state_dict()
    shapes = [
        f"{prefix}{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    found = {
        "missing": [f"{prefix}{name}" for name in own if name not in state],
        "unexpected": [f"{prefix}{name}" for name in state if name not in own],
        "of another shape": shapes,
    }
    return "; ".join(
        f"{len(names)} {kind} ({_first(names)})" for kind, names in found.items() if names
    )


def _first(names: list[str]) -> str:
    """The first few of a list."""
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")


def _hints(
    backbone: Backbone, stored: Stored, known: Format, body: State, names_of: SizeNames | None
) -> str:
    """What the file looks like, and what to do."""
    looks, own = looks_of(stored.state), looks_of(backbone.model.state_dict())
    if any(".lora_" in name or "base_model." in name for name in stored.state):
        return "It looks like a PEFT adapter: load it with PeftModel.from_pretrained"
    if looks is None:
        return "It looks like no model that is known here: use the backbone it was made with"
    if looks != own:
        named = names_of(looks) if names_of else []
        use = f": use {' or '.join(named)}" if named else ", which is not in the catalog"
        return f"It looks like {looks} ({known.title}){use}; {backbone.spec.name} is {own}"
    own_state = backbone.model.state_dict()
    if misfits(body, own_state) and not differences(
        {n: own_state[n] if n in misfits(body, own_state) else t for n, t in body.items()},
        backbone.model,
    ):
        return "Its position embeddings are for another image size: resize=True interpolates them"
    return (
        f"It looks like the right model ({known.title}): the file is incomplete, or was changed, "
        "or has another number of classes"
    )


def same_looks(looks: Looks, candidates: Mapping[str, Looks | None]) -> list[str]:
    """Names of the candidates that look the same.

    Args:
        looks: What a file looks like.
        candidates: What each backbone looks like.

    Examples:
        >>> same_looks(Looks("vit", 4, 2, 8), {"a": Looks("vit", 4, 2, 8), "b": None})
        ['a']
    """
    return [name for name, other in candidates.items() if other == looks]
