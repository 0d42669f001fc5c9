"""The surroundings in which a run repeats bit for bit."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fewshot_bench.config import RunConfig
from fewshot_bench.seeds import derive

__all__ = ["reproducible"]


@contextmanager
def reproducible(config: RunConfig) -> Iterator[None]:
    """Fix threads, kernels and the global generator for a block; put everything back after it.

    The number of threads decides in which order a CPU adds up, so it is part of the configuration.
    The global generator is seeded from the order stream, for libraries that cannot be given one
    (dropout). On CUDA, deterministic kernels are asked for.

    Args:
        config: Gives `threads`, `seed` and `device`.

    Example:
        >>> def draw():
        ...     with reproducible(RunConfig()):
        ...         return torch.rand(1).item()
        >>> draw() == draw()
        True
    """
    threads, cuda = torch.get_num_threads(), torch.device(config.device).type == "cuda"
    deterministic = torch.are_deterministic_algorithms_enabled()
    if cuda:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with torch.random.fork_rng(devices=[config.device] if cuda else []):
        torch.manual_seed(derive(config.seed).order)
        torch.set_num_threads(config.threads)
        torch.use_deterministic_algorithms(deterministic or cuda)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic)
            torch.set_num_threads(threads)
