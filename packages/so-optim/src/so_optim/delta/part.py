"""One tensor of a delta: what base it belongs to, and the bits that differ from it.

A change is stored as the XOR of two bit patterns. Flipping these bits turns base into new and new
into base, exactly and for every dtype, NaN payloads and signed zeros included; so one value an
entry serves both directions, in any process, where a stored difference would round and a stored new
value could not go back.
"""

import ctypes
import hashlib
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "Part",
    "bit_pattern",
    "compare",
    "digest",
    "flip",
    "flipped",
    "index_dtype",
    "row_major",
]

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True, eq=False)
class Part:
    r"""One tensor of the model, under all its names.

    Attributes:
        names: Its name and then those of tensors that are tied to it (share its memory).
        dtype: Of the base and of the new tensor.
        shape: Of both; $n$ is the number of entries.
        digest: Hash of the base's content; empty if no entry changed.
        indices: Row-major flat positions of the $k$ changed entries, sorted, on the CPU; none
            changed if left out.
        flips: XOR of the bit patterns there, shape $(k,)$, integers as wide as the dtype.
        new: The whole tensor where the base has none, else None.
    """

    names: tuple[str, ...]
    dtype: torch.dtype
    shape: tuple[int, ...]
    digest: str = ""
    indices: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int32))
    flips: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.uint8))
    new: Tensor | None = None

    @property
    def name(self) -> str:
        """The first of its names."""
        return self.names[0]

    @property
    def numel(self) -> int:
        """Number of entries of the tensor."""
        return torch.Size(self.shape).numel()

    @property
    def changed(self) -> int:
        """Number of entries that differ from the base; all of a new tensor."""
        return self.indices.numel() if self.new is None else self.numel

    @property
    def nbytes(self) -> int:
        """Bytes in a file: indices and bits, or the bits of all entries where that is less."""
        whole = self.numel * self.dtype.itemsize
        return min(self.indices.nbytes + self.flips.nbytes, whole) if self.new is None else whole

    def positions(self) -> Tensor:
        """Coordinates of the changed entries, int64, shape $(k, d)$ for $d$ dimensions."""
        flat = torch.arange(self.numel) if self.new is not None else self.indices.long()
        if not self.shape:  # a scalar has an entry but no coordinates
            return torch.empty(self.changed, 0, dtype=torch.int64)
        return torch.stack(torch.unravel_index(flat, self.shape), dim=1)

    def describe(self) -> dict[str, Any]:
        """What `Delta.describe` says about this tensor."""
        return {
            "shape": self.shape,
            "dtype": str(self.dtype).removeprefix("torch."),
            "names": self.names,
            "changed": self.changed,
            "density": self.changed / max(self.numel, 1),
            "bytes": self.nbytes,
            "new": self.new is not None,
        }


def index_dtype(numel: int) -> torch.dtype:
    """Narrowest dtype for positions in a tensor.

    Args:
        numel: Entries of the tensor.

    Returns:
        int32 as long as the last position fits, else int64.
    """
    return torch.int32 if numel - 1 <= torch.iinfo(torch.int32).max else torch.int64


def bit_pattern(tensor: Tensor) -> Tensor:
    """See a tensor as integers of the same width.

    Args:
        tensor: Any dense tensor of up to 8 bytes an entry.

    Returns:
        A view of the same shape and memory.
    """
    return tensor.detach().view(_INTEGERS[tensor.dtype.itemsize])


def row_major(tensor: Tensor) -> Tensor:
    """Read the bit patterns in row-major order.

    Args:
        tensor: Any dense tensor, on any device.

    Returns:
        Integers on the CPU, shape $(n,)$; they may share the tensor's memory.
    """
    return bit_pattern(tensor).cpu().contiguous().view(-1)


def compare(names: tuple[str, ...], base: Tensor, new: Tensor) -> Part:
    """Find the entries whose bits differ.

    Args:
        names: Names of the tensor.
        base: Its content in the base.
        new: Its content now, of the same dtype and shape.

    Returns:
        The part; it shares no memory with either.
    """
    before, after = row_major(base), row_major(new)
    where = (before != after).nonzero().view(-1)
    if where.numel() == 0:
        return Part(names, base.dtype, tuple(base.shape))
    return Part(
        names,
        base.dtype,
        tuple(base.shape),
        digest=digest(base),
        indices=where.to(index_dtype(before.numel())),
        flips=before[where] ^ after[where],
    )


def digest(tensor: Tensor) -> str:
    """Hash dtype, shape and content; strides and device do not matter.

    Args:
        tensor: Any dense tensor.

    Returns:
        32 hexadecimal digits of BLAKE2b.
    """
    found = hashlib.blake2b(f"{tensor.dtype} {tuple(tensor.shape)}".encode(), digest_size=16)
    content = row_major(tensor)
    if content.numel():  # straight from memory: torch alone has no buffer protocol
        found.update((ctypes.c_char * content.nbytes).from_address(content.data_ptr()))
    return found.hexdigest()


def flip(part: Part, tensor: Tensor) -> None:
    """Turn base into new, or new into base, in place.

    Args:
        part: A part with changes.
        tensor: The tensor, on any device, with any strides.
    """
    target, where = bit_pattern(tensor), part.indices.to(tensor.device, torch.int64)
    flips = part.flips.to(tensor.device)
    if target.is_contiguous():
        target.view(-1)[where] ^= flips
    else:  # a strided tensor has no flat view to write through
        target[torch.unravel_index(where, target.shape)] ^= flips


def flipped(part: Part, tensor: Tensor) -> Tensor:
    """Copy a tensor with the changed bits flipped.

    Args:
        part: A part with changes.
        tensor: The tensor, unharmed.

    Returns:
        A contiguous copy on the CPU.
    """
    copy = row_major(tensor).clone().view(tensor.dtype).view(tensor.shape)
    flip(part, copy)
    return copy
