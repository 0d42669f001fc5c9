"""Give a module a subclass of its own class, and take it away again.

`torch.nn.utils.parametrize` works the same way. `isinstance`, names, hooks and checkpoints stay as
they were, and a compiler sees an ordinary class.
"""

from typing import Any

import torch
from torch import Tensor, nn

from so_optim.sampled.alone import alone
from so_optim.sampled.gathered import gathered, samples
from so_optim.sampled.layers import Sampled
from so_optim.sampled.leaf import LEAF, Leaf, check_whole

__all__ = ["become", "restore", "revive", "sample_module"]

_made: dict[tuple[type, type, tuple[str, ...]], type] = {}


def sample_module(module: nn.Module, kind: type[Sampled], leaves: dict[str, Leaf]) -> None:
    """Make a module sample the gradients of some of its weights.

    Args:
        module: Changed in place.
        kind: How it takes part.
        leaves: By name of the weight in the module.
    """
    become(module, kind, tuple(leaves))
    module.__dict__["_so_leaves"] = leaves
    for name, leaf in leaves.items():
        module.register_parameter(name + LEAF, leaf.values)


def become(module: nn.Module, kind: type, names: tuple[str, ...] = ()) -> None:
    """Put a class in front of a module's own.

    Args:
        module: Changed in place.
        kind: A class with its new methods.
        names: Weights whose readers get the dense fallback.
    """
    module.__class__ = _class(kind, type(module), names)


def restore(module: nn.Module) -> None:
    """Give a module its own class back, and forget what sampling added to it.

    Args:
        module: Changed in place; an ordinary module stays as it is.
    """
    made_of = getattr(type(module), "_so_made_of", None)
    if made_of is None:
        return
    module.__class__ = made_of[1]
    for name in module.__dict__.pop("_so_leaves", {}):
        del module._parameters[name + LEAF]
    for name in ("_so_recompute", "_so_activation", "_so_keep_hidden", "_so_keep_qkv"):
        module.__dict__.pop(name, None)


def revive(kind: type, own: type, names: tuple[str, ...]) -> Any:
    """Make an empty module of a swapped class, for copies and pickles.

    Args:
        kind: As for `become`.
        own: The module's own class.
        names: As for `become`.

    Returns:
        A module without anything in it yet.
    """
    return object.__new__(_class(kind, own, names))


def _class(kind: type, own: type, names: tuple[str, ...]) -> type:
    """The subclass, made once; it goes by the name of its own class."""
    key = (kind, own, names)
    if key not in _made:
        body: dict[str, Any] = {name: _reader(name) for name in names}
        body |= {"__module__": own.__module__, "__qualname__": own.__qualname__}
        body |= {"_so_made_of": key, "__reduce_ex__": _reduce}
        _made[key] = type(own.__name__, (kind, own), body)
    return _made[key]


def _reduce(self: Any, protocol: Any) -> Any:
    """Copy and pickle a swapped module by the names of importable classes."""
    parameters = dict(self._parameters)
    for name, leaf in self.__dict__.get("_so_leaves", {}).items():
        if len(leaf.owners) == 1:  # pickle would write the storage that all weights share for each
            weight = parameters[name]
            own: Any = nn.Parameter(alone(weight.detach()), weight.requires_grad)
            own.__dict__.update(weight.__dict__)
            parameters[name] = own
    return revive, type(self)._so_made_of, {**self.__dict__, "_parameters": parameters}


def _reader(name: str) -> Any:
    """What `module.weight` gives to everyone but the module's own forward."""

    def read(self: Any) -> Tensor:
        check_whole(self, name)
        weight, values = self._parameters[name], self._parameters[name + LEAF]
        if not samples(weight, values):
            return weight
        used = gathered(weight, values, self._so_leaves[name].positions())
        if not torch.compiler.is_compiling():  # many read a weight for its shape alone
            used.register_hook(lambda _: self._note("a dense gradient for a moment", name))
        return used

    return property(read)
