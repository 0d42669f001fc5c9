"""Tensors of a TorchScript archive, such as OpenAI's CLIP, without loading the program in it.

`torch.jit.load` compiles the archive's code and runs its `__setstate__` methods, so it is not used.
The archive's `data.pkl` and storages are those of an ordinary torch file, only that modules are
pickled as objects of the archive's own classes. They are copied in memory into an ordinary torch
file, which `torch.load(weights_only=True)` reads with every such class standing for an empty
container.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

PROGRAM = "__torch__"  # the name space of classes that the archive's own code defines
LISTS = "torch.jit._pickle.build_"
LEFT_OUT = ("constants.pkl", "code/", "extra/", ".data/")


class Module:
    """Stands for a module of the archive: attributes, and nothing that could run."""


def is_torchscript(names: Iterable[str]) -> bool:
    """Whether a zip file with these entries is a TorchScript archive.

    Args:
        names: The entries.

    Examples:
        >>> is_torchscript(["m/data.pkl", "m/constants.pkl"]), is_torchscript(["m/data.pkl"])
        (True, False)
    """
    return any(name.partition("/")[2] == "constants.pkl" for name in names)


def read_torchscript(path: Path) -> dict[str, torch.Tensor]:
    """Parameters, buffers and tensor attributes of an archive, by their dotted names.

    Args:
        path: The archive, as `torch.jit.save` writes it.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        ValueError: The archive needs more than containers and tensors, or is broken.
    """
    try:
        plain, classes = _as_torch_file(path)
        with torch.serialization.safe_globals(_stand_ins(classes)):
            root = torch.load(plain, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError, ValueError, KeyError) as error:
        raise ValueError(
            f"checkpoint '{path}' is a TorchScript archive that is not made of tensors alone or is "
            f"broken ({str(error).splitlines()[0]}), and its program is never run. If you trust "
            f"whoever made it, convert it once: `torch.save(torch.jit.load('{path.name}', "
            f"map_location='cpu').state_dict(), '{path.stem}-weights.pt')`"
        ) from error
    return dict(_tensors(root, ""))


def _as_torch_file(path: Path) -> tuple[io.BytesIO, set[str]]:
    """The archive's data as an ordinary torch file, and the classes its pickle names."""
    plain = io.BytesIO()
    classes: set[str] = set()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(plain, "w") as target:
        for name in source.namelist():
            _, _, inside = name.partition("/")
            if not inside.startswith(LEFT_OUT):
                target.writestr(f"archive/{inside}", source.read(name))
                if inside == "data.pkl":
                    classes = _globals(source.read(name))
    plain.seek(0)
    return plain, classes


def _globals(data: bytes) -> set[str]:
    """Dotted names that a pickle imports, read off its opcodes."""
    found = set()
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name == "GLOBAL":
            found.add(str(argument).replace(" ", "."))
    return found


def _stand_ins(classes: set[str]) -> list[Any]:
    """What the names of a pickle stand for; names that are not here stay forbidden."""
    modules = [(Module, name) for name in classes if name.partition(".")[0] == PROGRAM]
    return modules + [(list, name) for name in classes if name.startswith(LISTS)]


def _tensors(value: Any, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor below a module, with its dotted name."""
    if torch.is_tensor(value):
        yield name, value.detach()
    elif isinstance(value, Module):
        for attribute, inner in vars(value).items():
            yield from _tensors(inner, f"{name}.{attribute}" if name else attribute)
