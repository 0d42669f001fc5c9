"""The trained weights as what differs from their base: a small file instead of a whole model.

After training with SO few entries differ from the weights it started from. A `Delta` holds exactly
these, puts them into a model and takes them out again, bit for bit. `stack` adds several up.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from so_optim.delta.file import fingerprint, read_parts, write_parts
from so_optim.delta.find import Weights, find_changes, read_weights
from so_optim.delta.match import check_content, targets
from so_optim.delta.memory import place, writable
from so_optim.delta.part import Part, flip
from so_optim.delta.sum import check_scales, merge

__all__ = ["Delta", "stack"]


class Delta:
    r"""What changed between two sets of weights, entry by entry and bit for bit.

    For each tensor with $n$ entries it holds the $k$ positions where the bits of base $b$ and new
    weights $w$ differ, and $x = b \oplus w$ there. As $b \oplus x = w$ and $w \oplus x = b$,
    applying and reverting are the same exact operation, in any process, for every dtype, NaN and
    $-0$ included. A file takes $k (4 + s)$ bytes a tensor with $s$ bytes an entry, never more than
    $n s$, and a header.

    A delta knows its base by the names, shapes and dtypes of all tensors and by the content of
    those it changes, and refuses any other. Tied tensors are one; a tensor that the base lacks is
    stored whole. Build one with `between` or `load`.

    Args:
        parts: Tensors of the model, as `between` finds them.

    Examples:
        >>> import torch
        >>> model = torch.nn.Linear(64, 64)
        >>> base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        >>> with torch.no_grad():
        ...     model.weight[3, 5] += 1
        >>> delta = Delta.between(base, model)
        >>> delta
        Delta(changed=1 of 4160, tensors=1 of 2, bytes=8)
        >>> delta.positions("weight")
        tensor([[3, 5]])
        >>> delta.describe()["tensors"]["weight"]["changed"]
        1
        >>> delta.revert(model)
        >>> torch.equal(model.weight, base["weight"])
        True
    """

    def __init__(self, parts: Iterable[Part]) -> None:
        self._parts = {part.name: part for part in parts}

    @classmethod
    def between(cls, base: Weights, new: Weights) -> Delta:
        """Find what changed from one set of weights to another.

        Args:
            base: The weights training started from: a model, a state dict, or the path of a
                safetensors file, which is read tensor by tensor and saves a second copy in memory.
            new: The weights now; the same kinds. A model with sampled gradients is fine.

        Returns:
            The delta; it shares no memory with the weights.

        Raises:
            ValueError: If a tensor of the base is missing or has another shape or dtype.
        """
        return cls(find_changes(read_weights(base, "base"), read_weights(new, "new")))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Delta:
        """Read a delta from its file.

        Args:
            path: A file that `save` wrote.

        Returns:
            The delta.

        Raises:
            ValueError: If the file is damaged, of another kind or of a later version.
            ImportError: If safetensors is not installed.
        """
        return cls(read_parts(path))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file; it appears complete or not at all.

        Args:
            path: The file; an existing one is replaced.

        Raises:
            ImportError: If safetensors is not installed.

        Examples:
            >>> import tempfile, torch
            >>> delta = Delta.between({"w": torch.zeros(1000)}, {"w": torch.arange(1000.0)})
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     delta.save(f"{folder}/task.safetensors")
            ...     Delta.load(f"{folder}/task.safetensors")
            Delta(changed=999 of 1000, tensors=1 of 1, bytes=4000)
        """
        write_parts(path, self._parts.values())

    def apply(self, model: nn.Module | dict[str, Any]) -> None:
        """Turn the base into the new weights, in place.

        Args:
            model: The base, on any device: a model, or a state dict, which also receives the
                tensors that the base lacks. A model must have these already; they are overwritten.

        Raises:
            ValueError: If it is not the base of this delta, or has it already; nothing is changed.
        """
        tensors = self._flip(model, applied=False)
        for part in self._parts.values():
            place(part, tensors, model)

    def revert(self, model: nn.Module | dict[str, Any]) -> None:
        """Turn the new weights back into the base, in place and bit for bit.

        Args:
            model: What `apply` changed, here or in another process. Tensors that the base lacks are
                removed from a state dict and stay as they are in a model.

        Raises:
            ValueError: If the delta is not applied or would not give the base; nothing is changed.
        """
        self._flip(model, applied=True)
        added = [name for p in self._parts.values() if p.new is not None for name in p.names]
        if isinstance(model, dict):
            for name in added:
                model.pop(name, None)

    @property
    def base(self) -> str:
        """Hash of all that the delta knows of its base, 32 hexadecimal digits."""
        return fingerprint(self._parts.values())

    def positions(self, name: str) -> Tensor:
        """Tell where a tensor changed.

        Args:
            name: Its name.

        Returns:
            Coordinates of each changed entry, int64, shape (changed, dimensions); all entries of a
            tensor that the base lacks.

        Raises:
            ValueError: If there is no such tensor.
        """
        for part in self._parts.values():
            if name in part.names:
                return part.positions()
        raise ValueError(f"name must be a tensor of the model but is {name!r}: see describe()")

    def describe(self) -> dict[str, Any]:
        """Count the changed entries, in total and by tensor.

        Returns:
            `base` (hash), `changed`, `entries` (of all tensors), `density` (their ratio), `bytes`
            (in a file, without its header), and `tensors`: by name the same for each that changed,
            with its `shape`, `dtype`, all its `names`, and whether it is `new`.
        """
        parts = list(self._parts.values())
        changed, entries = sum(p.changed for p in parts), sum(p.numel for p in parts)
        return {
            "base": self.base,
            "changed": changed,
            "entries": entries,
            "density": changed / max(entries, 1),
            "bytes": sum(part.nbytes for part in parts),
            "tensors": {part.name: part.describe() for part in parts if part.changed},
        }

    def _flip(self, model: nn.Module | dict[str, Any], *, applied: bool) -> Mapping[str, Tensor]:
        """Change the model between base and new, after checking that it is the other one."""
        parts = list(self._parts.values())
        tensors = writable(model, parts, fills=not applied)
        changed = [(p, t) for p in parts if p.indices.numel() for t in targets(p, tensors)]
        for part, tensor in changed:
            check_content(part, tensor, applied=applied)
        for part, tensor in changed:
            flip(part, tensor)
        return tensors

    def __repr__(self) -> str:
        found = self.describe()
        return (
            f"Delta(changed={found['changed']} of {found['entries']}, "
            f"tensors={len(found['tensors'])} of {len(self._parts)}, bytes={found['bytes']})"
        )

    def __str__(self) -> str:
        found = self.describe()["tensors"].items()
        lines = (f"  {name}: {of['changed']} changed ({of['density']:.3%})" for name, of in found)
        return "\n".join([repr(self), *lines])


def stack(
    deltas: Sequence[Delta], base: Weights, *, scales: Sequence[float] | None = None
) -> Delta:
    r"""Add several deltas of one base up to one.

    Where deltas overlap their differences add, $w = b + \sum_i c_i (w_i - b)$, in float64 and
    rounded once; where one delta alone changes an entry and $c_i = 1$, its bits are taken as they
    are. The order does not matter, to the bit. The result is a delta of the same base like any
    other: applying and reverting it are exact, and to take one delta out again, revert the stack
    and apply that of the others.

    Args:
        deltas: At least one, all of the same base.
        base: Their base: a model, a state dict, or the path of a safetensors file. Only read.
        scales: $c_i$ for each delta, 1 if left out; -1 subtracts what a delta learned. Tensors that
            the base lacks are taken whole.

    Returns:
        The delta that does what all of them do.

    Raises:
        ValueError: If the deltas have different bases, or `base` is not theirs, or two bring
            different tensors that the base lacks.

    Examples:
        >>> import torch
        >>> base = {"w": torch.zeros(4)}
        >>> one = Delta.between(base, {"w": torch.tensor([1.0, 2.0, 0.0, 0.0])})
        >>> two = Delta.between(base, {"w": torch.tensor([0.0, 3.0, 4.0, 0.0])})
        >>> stack([one, two], base).apply(base)
        >>> base["w"]
        tensor([1., 5., 4., 0.])

    Reference:
        Ilharco et al., Editing Models with Task Arithmetic, ICLR 2023, arXiv:2212.04089.
    """
    if not deltas or not all(isinstance(delta, Delta) for delta in deltas):
        raise ValueError(f"deltas must be a list of at least one Delta but is {deltas!r}")
    factors = check_scales(scales, len(deltas))
    layers = [list(delta._parts.values()) for delta in deltas]
    return Delta(merge(layers, factors, read_weights(base, "base")))
