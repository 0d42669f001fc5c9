"""The surroundings in which a run repeats bit for bit."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from fewshot_bench.config import RunConfig
from fewshot_bench.seeds import derive

__all__ = ["find_device", "reproducible"]


@contextmanager
def reproducible(config: RunConfig) -> Iterator[None]:
    """Fix threads, kernels and the global generator for a block; put everything back after it.

    The number of threads decides in which order a CPU adds up, so it is part of the configuration.
    The global generator is seeded from the order stream, for libraries that cannot be given one
    (dropout). On CUDA, deterministic kernels are asked for.

    Args:
        config: Gives `threads`, `seed` and `device`.

    Raises:
        ValueError: The device does not exist.

    Examples:
        >>> def draw():
        ...     with reproducible(RunConfig()):
        ...         return torch.rand(1).item()
        >>> draw() == draw()
        True
    """
    threads, cuda = torch.get_num_threads(), find_device(config.device).type == "cuda"
    with torch.random.fork_rng(devices=[config.device] if cuda else []):
        torch.manual_seed(derive(config.seed).order)
        torch.set_num_threads(config.threads)
        try:
            with _deterministic_kernels() if cuda else nullcontext():
                yield
        finally:
            torch.set_num_threads(threads)


@contextmanager
def _deterministic_kernels() -> Iterator[None]:
    """Ask CUDA for kernels that repeat; on a CPU they do anyway, and the question costs seconds."""
    before = torch.are_deterministic_algorithms_enabled()
    settings: Any = torch.utils.deterministic
    filling = settings.fill_uninitialized_memory
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    settings.fill_uninitialized_memory = False  # it would be timed
    try:
        yield
    finally:
        settings.fill_uninitialized_memory = filling
        torch.use_deterministic_algorithms(before)


def find_device(name: str) -> torch.device:
    """Check that a device exists.

    Args:
        name: `cpu`, `cuda`, `cuda:1`, ...

    Returns:
        The device.

    Raises:
        ValueError: There is none of this name, or not on this machine.

    Examples:
        >>> find_device("cpu")
        device(type='cpu')
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"unknown device {name!r}: use cpu, cuda or cuda:<number>") from None
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ValueError(f"device {name!r} is not here ({count} CUDA devices): use --device cpu")
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device {name!r} is not supported: use cpu, cuda or cuda:<number>")
    return device
