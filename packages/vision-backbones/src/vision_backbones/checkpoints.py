"""Weights from a file, all of them or none, and random weights from a seed."""

from __future__ import annotations

import contextlib
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from vision_backbones.heads import linear_head
from vision_backbones.split import join_split_keys

if TYPE_CHECKING:
    from vision_backbones.backbone import Backbone

State = dict[str, torch.Tensor]
TORCH_SUFFIXES = (".pt", ".pth", ".bin")
WRAPPERS = ("state_dict", "model", "model_state_dict")
SHOWN = 3


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw initial weights from `seed`, and leave the global generator as it was.

    Args:
        seed: Any integer that torch takes.

    Examples:
        >>> with seeded(0):
        ...     first = torch.rand(1)
        >>> with seeded(0):
        ...     print(bool(torch.rand(1) == first))
        True
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def read_state(path: Path) -> State:
    """Tensors by name from a `.safetensors` file, or from a torch file without code in it.

    Args:
        path: The file.

    Returns:
        Tensors by name; a wrapping `{"state_dict": …}` is taken off.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no file of tensors.
    """
    if path.is_dir():
        raise ValueError(f"checkpoint '{path}' is a folder: give the .safetensors file inside it")
    if not path.exists():
        raise FileNotFoundError(
            f"checkpoint '{path}' does not exist: check the path, or use checkpoint='random'"
        )
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in TORCH_SUFFIXES:
        return _read_torch(path)
    raise ValueError(
        f"checkpoint '{path}' has an unknown format: expected .safetensors, "
        f"{', '.join(TORCH_SUFFIXES)}"
    )


def load_into(backbone: Backbone, path: Path) -> None:
    """Fill a backbone from a file, all of it or nothing.

    The file holds the library's own weights, or a whole backbone's (`model.…` and perhaps
    `head.…`, with packed or split attention). A linear head in the file replaces class prompts.

    Args:
        backbone: Changed in place, only if everything fits.
        path: The file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Names or shapes differ; the message lists the first of each.
    """
    state = read_state(path)
    whole = bool(state) and all(name.startswith(("model.", "head.")) for name in state)
    body = {n.removeprefix("model."): t for n, t in state.items() if n.startswith("model.")}
    body = join_split_keys(body if whole else backbone.own_keys(state))
    head = {n.removeprefix("head."): t for n, t in state.items() if whole and n.startswith("head.")}
    problems = differences(body, backbone.model)
    if head and not problems:
        fitting = linear_head(backbone.spec.width, backbone.classes)
        problems = differences(head, fitting, "head.")
    if problems:
        raise ValueError(
            f"checkpoint '{path}' does not fit {backbone.spec.name}: {problems}; nothing was "
            "loaded. Use the backbone it was made with and as many classes"
        )
    backbone.model.load_state_dict(body)
    if head:
        backbone.use_linear_head()
        backbone.head.load_state_dict(head)


def differences(state: State, module: nn.Module, prefix: str = "") -> str:
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


def _read_safetensors(path: Path) -> State:
    """Tensors of a safetensors file."""
    import safetensors
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except safetensors.SafetensorError as error:
        raise ValueError(f"checkpoint '{path}' is not a safetensors file: {error}") from error


def _read_torch(path: Path) -> State:
    """Tensors of a file that `torch.save` wrote."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that are then refused anyway
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise ValueError(
            f"checkpoint '{path}' is not a plain file of tensors, and code in files is never run: "
            "save its state_dict as .safetensors"
        ) from error
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(torch.is_tensor(t) for t in content.values()):
        raise ValueError(
            f"checkpoint '{path}' holds no state_dict: save the model's state_dict() instead"
        )
    return content
