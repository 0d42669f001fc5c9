"""SNELL's compiled kernels in a simulation: everything that they allocate, nothing computed.

The Python around the kernels runs as it is, on tensors without values. Calls into compiled code do
nothing, a threshold is zero once the room for its selection has been taken, and numbers that are
asked of a tensor are zeros.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from torch._subclasses.fake_tensor import FakeTensor

__all__ = ["simulated_kernels"]


@contextmanager
def simulated_kernels() -> Iterator[None]:
    """Let snell_layers go the way of its compiled kernels with tensors that have no values.

    Yields:
        Nothing.
    """
    from snell_layers.kernels import cpu, use
    from snell_layers.kernels.piece import Piece

    with ExitStack() as stack:
        stack.enter_context(use(True))
        stack.enter_context(patch.object(cpu, "runs", lambda *arguments: True))
        stack.enter_context(patch.object(cpu, "threshold_of", _threshold_of))
        stack.enter_context(patch.object(Piece, "call", lambda *arguments: None))
        stack.enter_context(patch.object(FakeTensor, "tolist", _zeros, create=True))
        yield


def _threshold_of(piece: Any, removed: int, hint: float | None = None) -> float:
    """Take the room that a selection takes."""
    from snell_layers.kernels.threshold import ROOM

    piece.points.new_empty(piece.rows * piece.columns // ROOM + 1)
    return 0.0


def _zeros(tensor: FakeTensor) -> list[float]:
    """Give as many numbers as a vector has."""
    return [0.0] * tensor.numel()
