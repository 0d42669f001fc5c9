"""A running count of the bytes of all living tensors."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from fewshot_bench.memory import _LiveBytes

__all__ = ["counting"]


@contextmanager
def counting() -> Iterator[_LiveBytes]:
    """Count the storages of all tensors that live, and the most bytes there were.

    Yields:
        The counter, at work inside the block. Cycles are not collected meanwhile: when that happens
        would depend on what ran before.
    """
    counter, collecting = _LiveBytes(), gc.isenabled()
    gc.disable()
    try:
        with counter:
            yield counter
    finally:
        counter.forget()
        if collecting:
            gc.enable()
