"""The ruler: accuracy, peak memory and step time of every method on every backbone.

`pipeline.run` is the whole flow and the place to start reading.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewshot_bench.config import RunConfig
    from fewshot_bench.methods import METHODS
    from fewshot_bench.pipeline import run
    from fewshot_bench.results import RunResult

__all__ = ["METHODS", "RunConfig", "RunResult", "run"]

_HOMES = {"METHODS": "methods", "RunConfig": "config", "RunResult": "results", "run": "pipeline"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that reading results costs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
