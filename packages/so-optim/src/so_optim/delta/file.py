"""A delta as a safetensors file, and weights in one read tensor by tensor.

The file holds for each changed tensor `NAME.indices` (int32, or int64 where needed) and `NAME.xor`
(bits, as integers of the weight's width), `NAME.xor` of all entries where that is smaller, and
`NAME.new` for a tensor that the base lacks. Names, shapes, dtypes and hashes of the base are in its
header, with a checksum of everything. Nothing is unpickled.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor

from so_optim.delta.part import Part, bit_pattern, digest, index_dtype

__all__ = ["StoredTensors", "fingerprint", "read_parts", "write_parts"]

FORMAT, VERSION = "so_optim.delta", 1


class StoredTensors(Mapping[str, Tensor]):
    """Tensors of a safetensors file by name, each read when it is asked for.

    Args:
        path: The file.

    Raises:
        ValueError: If it is not a safetensors file.
        ImportError: If safetensors is not installed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        safetensors = _safetensors()
        if not Path(path).is_file():
            raise FileNotFoundError(f"there is no file {os.fspath(path)!r}")
        try:
            self._file = safetensors.safe_open(os.fspath(path), framework="pt")
        except safetensors.SafetensorError as error:
            raise ValueError(
                f"{os.fspath(path)!r} is not a safetensors file, or is damaged ({error}): pass one "
                "that safetensors saved (nothing is unpickled)"
            ) from error
        self.metadata: dict[str, str] = self._file.metadata() or {}
        self._names = list(self._file.keys())

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def fingerprint(parts: Iterable[Part]) -> str:
    """Hash what a delta knows of its base: every name, dtype and shape, and the touched contents.

    Args:
        parts: The delta.

    Returns:
        32 hexadecimal digits.
    """
    return _hash(json.dumps([_record(part) for part in parts if part.new is None]))


def write_parts(path: str | os.PathLike[str], parts: Iterable[Part]) -> None:
    """Write a delta; the file appears complete or not at all.

    Args:
        path: The file; an existing one is replaced.
        parts: The delta.

    Raises:
        ImportError: If safetensors is not installed.
    """
    parts = tuple(parts)
    tensors = {key: tensor for part in parts for key, tensor in _pack(part)}
    header = {
        "format": FORMAT,
        "version": str(VERSION),
        "base": fingerprint(parts),
        "changed": str(sum(part.changed for part in parts)),
        "parts": json.dumps([_record(part) for part in parts]),
    }
    header["checksum"] = _checksum(header, tensors)
    content = _safetensors().torch.save(tensors, header)
    path = Path(path)
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def read_parts(path: str | os.PathLike[str]) -> tuple[Part, ...]:
    """Read a delta and check that it is whole.

    Args:
        path: The file.

    Returns:
        Its parts, in memory.

    Raises:
        ValueError: If the file is damaged, of another kind or of a later version.
        ImportError: If safetensors is not installed.
    """
    file = StoredTensors(path)
    name, header = os.fspath(path), dict(file.metadata)
    if header.get("format") != FORMAT:
        raise ValueError(
            f"{name!r} holds other tensors, not a delta: pass one that Delta.save wrote"
        )
    if header.get("version") != str(VERSION):
        raise ValueError(
            f"{name!r} has version {header.get('version')!r} of the delta format but this so-optim "
            f"reads {VERSION}: install the so-optim that wrote it"
        )
    tensors = {key: tensor.clone() for key, tensor in file.items()}
    checksum = header.pop("checksum", "")
    try:
        if checksum != _checksum(header, tensors):
            raise ValueError("its checksum differs")
        return tuple(_unpack(record, tensors) for record in json.loads(header["parts"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{name!r} is damaged ({error}): save or copy the delta again") from error


def _pack(part: Part) -> Iterator[tuple[str, Tensor]]:
    """The tensors to write for a part."""
    if part.new is not None:
        yield f"{part.name}.new", part.new
    elif part.nbytes < part.indices.nbytes + part.flips.nbytes:
        whole = part.flips.new_zeros(part.numel)
        whole[part.indices.long()] = part.flips
        yield f"{part.name}.xor", whole
    elif part.changed:
        yield f"{part.name}.indices", part.indices
        yield f"{part.name}.xor", part.flips


def _unpack(record: dict[str, Any], tensors: Mapping[str, Tensor]) -> Part:
    """A part from its header and tensors, checked so that using it cannot go astray."""
    names, shape = tuple(record["names"]), torch.Size(record["shape"])
    name, dtype = names[0], getattr(torch, record["dtype"])
    if f"{name}.new" in tensors:
        new = tensors[f"{name}.new"]
        _require(new.dtype == dtype and new.shape == shape, f"{name!r} has the wrong kind")
        return Part(names, dtype, tuple(shape), new=new)
    if f"{name}.xor" not in tensors:
        return Part(names, dtype, tuple(shape))
    flips = tensors[f"{name}.xor"]
    indices = tensors.get(f"{name}.indices")
    if indices is None:
        _require(flips.numel() == shape.numel(), f"{name!r} has the wrong length")
        indices = flips.nonzero().view(-1).to(index_dtype(shape.numel()))
        flips = flips[indices.long()]
    integers = bit_pattern(torch.empty(0, dtype=dtype)).dtype
    _require(flips.dtype == integers and flips.shape == indices.shape, f"{name!r} does not fit")
    rising = bool((indices[1:] > indices[:-1]).all()) and indices.dtype == index_dtype(
        shape.numel()
    )
    inside = indices.numel() > 0 and int(indices[0]) >= 0 and int(indices[-1]) < shape.numel()
    _require(rising and inside, f"{name!r} has wrong indices")
    return Part(names, dtype, tuple(shape), record["digest"], indices, flips)


def _record(part: Part) -> dict[str, Any]:
    """What the header says about a part."""
    dtype = str(part.dtype).removeprefix("torch.")
    return {"names": part.names, "dtype": dtype, "shape": part.shape, "digest": part.digest}


def _checksum(header: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """Hash of everything else in the file."""
    found = [[key, digest(tensor)] for key, tensor in sorted(tensors.items())]
    return _hash(json.dumps([sorted(header.items()), found]))


def _hash(text: str) -> str:
    """Short hash of a text."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _require(fits: bool, what: str) -> None:
    """Refuse what a writer of this module never writes."""
    if not fits:
        raise ValueError(what)


def _safetensors() -> Any:
    """The library, wanted only by those who keep deltas in files."""
    try:
        import safetensors.torch
    except ImportError as error:
        raise ImportError(
            "deltas are kept in safetensors files: pip install so-optim[delta]"
        ) from error
    return safetensors
