"""Which modules can be adapted, and clear words for those that cannot."""

from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from snell_layers.start import check_fit

from .adapter import SnellAdapter
from .attention import SnellAttentionAdapter
from .config import SnellConfig
from .convolution import SnellConv2dAdapter
from .layer import SnellLinearAdapter

__all__ = ["adapter_class", "candidates", "check_target"]

_ADAPTERS: dict[type[nn.Module], type[SnellAdapter]] = {
    nn.Linear: SnellLinearAdapter,
    Conv1D: SnellLinearAdapter,
    nn.Conv2d: SnellConv2dAdapter,
    nn.MultiheadAttention: SnellAttentionAdapter,
}


def adapter_class(module: nn.Module) -> type[SnellAdapter] | None:
    """The adapter for a type of module, or `None`."""
    return next((made for kind, made in _ADAPTERS.items() if isinstance(module, kind)), None)


def candidates(model: nn.Module) -> str:
    """Distinct endings of the names of modules that can be adapted, and one full name."""
    names = [
        name
        for name, module in model.named_modules()
        if name and _problem(module) is None and not _is_uncalled(model, name)
    ]
    endings = sorted({name.rpartition(".")[2] for name in names})
    if not names:
        return f"nothing: this model has no module of these types: {_types()}"
    return f"{', '.join(endings[:20])} (or full names such as {names[0]!r})"


def check_target(model: nn.Module, config: SnellConfig, name: str, module: Any) -> None:
    """Refuse a module that cannot take the update that the configuration gives it."""
    if _is_uncalled(model, name):
        attention = name.rpartition(".")[0]
        raise ValueError(
            f"module {name!r} belongs to an nn.MultiheadAttention, which never calls it: target "
            f"the attention itself, {attention.rpartition('.')[2]!r}, whose adapter reaches query, "
            "key, value and output, or list this module in exclude_modules"
        )
    if isinstance(module, SnellAdapter):
        module = module.get_base_layer()
    problem = _problem(module)
    if problem is not None:
        raise ValueError(
            f"module {name!r} is a {type(module).__name__}, {problem}: "
            f"target {_types()}, or list it in exclude_modules"
        )
    made = adapter_class(module)
    assert made is not None, "a module without problems has an adapter"
    for part, (rows, columns) in made.shapes(module, name).items():
        try:
            check_fit(columns, rows, config.rule(part), made.pieces(config, part), config.init)
        except ValueError as error:
            raise ValueError(f"module {part!r}: {error}") from None


def _problem(module: nn.Module) -> str | None:
    """Why a module cannot be adapted, or `None`."""
    made = adapter_class(module)
    if made is None:
        return "which SNELL cannot adapt"
    problem = made.problem(module)
    return None if problem is None else f"which {problem}, so SNELL cannot adapt it"


def _types() -> str:
    """All that can be adapted, in words."""
    return "nn.Linear, Conv1D, 1x1 or patch nn.Conv2d, and nn.MultiheadAttention modules"


def _is_uncalled(model: nn.Module, name: str) -> bool:
    """Whether the parent reads a linear's weight but never calls it: a dead adapter."""
    return isinstance(model.get_submodule(name.rpartition(".")[0]), nn.MultiheadAttention)
