"""Tensors by name from a file of any container, told apart by its first bytes, never by its name.

Nothing that a file says is ever run: pickles are read with `weights_only=True`, arrays with
`allow_pickle=False`, TorchScript archives as data (see `archive.py`).
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vision_backbones.checkpoints.archive import is_torchscript, read_torchscript

State = dict[str, torch.Tensor]
WRAPPERS = ("state_dict", "model", "model_state_dict")
IN_FOLDERS = ("open_clip_model.safetensors", "model.safetensors", "pytorch_model.bin")
ZIP, PICKLE = b"PK\x03\x04", b"\x80"


@dataclass(frozen=True, eq=False)
class Stored:
    """What a file holds.

    Args:
        path: The file.
        state: Tensors by the file's own names.
        container: `"safetensors"`, `"torch"`, `"torchscript"` or `"npz"`.
        wrapper: The key that the tensors were found under, such as `"model"`; empty for none.
    """

    path: Path
    state: State
    container: str
    wrapper: str = ""


def read(path: Path) -> Stored:
    """Read a checkpoint file, or the weights file of a folder.

    Args:
        path: The file or the folder.

    Returns:
        Its tensors, on the CPU, in the dtypes they are stored in.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no file of tensors, is cut short, or would need code to be run.
    """
    path = _file(path)
    with path.open("rb") as file:
        start = file.read(9)
    if start.startswith(ZIP):
        return _read_zip(path)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size:
        return Stored(path, _read_safetensors(path), "safetensors")
    if start.startswith(PICKLE):
        return _read_torch(path)
    raise ValueError(
        f"checkpoint '{path}' is not a file of weights: known are .safetensors, .npz and what "
        "torch.save or torch.jit.save write. Download it again, or look at what it is"
    )


def _file(path: Path) -> Path:
    """The file itself, or the one inside a folder."""
    if path.is_dir():
        inside = [path / name for name in IN_FOLDERS if (path / name).is_file()]
        if not inside:
            raise ValueError(
                f"checkpoint '{path}' is a folder: give the .safetensors file inside it (looked "
                f"for {', '.join(IN_FOLDERS)})"
            )
        return inside[0]
    if not path.exists():
        raise FileNotFoundError(
            f"checkpoint '{path}' does not exist: check the path, or use checkpoint='random'"
        )
    return path


def _read_zip(path: Path) -> Stored:
    """Tensors of a zip file: arrays of NumPy, a TorchScript archive or a torch file."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"checkpoint '{path}' is not a whole file ({error}): it is cut short, download it again"
        ) from error
    if names and all(name.endswith(".npy") for name in names):
        return Stored(path, _read_npz(path), "npz")
    if is_torchscript(names):
        return Stored(path, read_torchscript(path), "torchscript")
    return _read_torch(path)


def _read_safetensors(path: Path) -> State:
    """Tensors of a safetensors file."""
    import safetensors
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except safetensors.SafetensorError as error:
        raise ValueError(f"checkpoint '{path}' is not a safetensors file: {error}") from error


def _read_npz(path: Path) -> State:
    """Arrays of an .npz file, as tensors."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"checkpoint '{path}' is not a plain file of arrays ({error}), and objects in files "
            "are never unpickled: save its arrays alone with numpy.savez, in float32"
        ) from error


def _read_torch(path: Path) -> Stored:
    """Tensors of a file that `torch.save` wrote, without what a training run stored beside them."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that are then refused anyway
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError, ValueError) as error:
        raise ValueError(_refusal(path, error)) from error
    wrapper = ""
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content, wrapper = content[key], key
    if not isinstance(content, dict) or not all(torch.is_tensor(t) for t in content.values()):
        raise ValueError(
            f"checkpoint '{path}' holds no state_dict: save the model's state_dict() instead"
        )
    return Stored(path, content, "torch", wrapper)


def _refusal(path: Path, error: Exception) -> str:
    """Why a torch file was not read, and the way out."""
    needs = _needed(path)
    because = f" (it needs {', '.join(needs)})" if needs else f" ({str(error).splitlines()[0]})"
    return (
        f"checkpoint '{path}' is not a plain file of tensors{because}, and code in files is never "
        "run. If you trust whoever made it, convert it once, where nothing is at stake: "
        "`import torch; from safetensors.torch import save_file; "
        f"c = torch.load('{path.name}', map_location='cpu', weights_only=False); "
        "c = c.get('model', c.get('state_dict', c)); "
        f"save_file({{k: v.contiguous() for k, v in c.items()}}, '{path.stem}.safetensors')`"
    )


def _needed(path: Path) -> list[str]:
    """The names that a pickle would have to import, where torch can list them."""
    unreadable: tuple[type[Exception], ...] = (
        pickle.UnpicklingError, EOFError, RuntimeError, ValueError, KeyError, IndexError,
    )  # fmt: skip
    try:
        needed: Any = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except unreadable:
        return []
    return sorted(needed)
