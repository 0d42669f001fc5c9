"""Turn a model's weights into frozen ones with compact leaves, and back."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from so_optim.packed.weights import side_by_side
from so_optim.reading import write_entries
from so_optim.sampled.blocks import MEMORY, recompute
from so_optim.sampled.layers import Activation, Norm, sampled_kind, takes_part
from so_optim.sampled.leaf import Leaf, refuse_sharded
from so_optim.sampled.producers import activation_of, is_plain_norm
from so_optim.sampled.swap import become, restore, sample_module
from so_optim.settings import trains_densely

if TYPE_CHECKING:
    from so_optim.optimizer import SO

__all__ = ["Sampling"]

Owners = dict[Tensor, list[tuple[nn.Module, str]]]


class Sampling:
    """A model whose sparse weights are frozen, each with a compact leaf; undone on exit.

    Made by `SO.sample_gradients`, whose docstring explains it.

    Args:
        optimizer: Trains (some of) the model's weights.
        model: Changed in place.
        memory: "free", "low" or "minimal".

    Raises:
        ValueError: If the model cannot be sampled; nothing was changed then.
    """

    def __init__(self, optimizer: "SO", model: nn.Module, memory: str) -> None:
        check_can_sample(optimizer, model, memory)
        self.optimizer, self.model, self.memory = optimizer, model, memory
        self.names: dict[Tensor, str] = {weight: name for name, weight in model.named_parameters()}
        owners = _owners(optimizer, model)
        side_by_side([weight for weight in _by_size(optimizer) if weight in owners])
        self.leaves = {weight: self._sample(weight, used) for weight, used in owners.items()}
        self._change_modules(owners)

    def undo(self) -> None:
        """Make the model and the optimizer what they were; training goes on from the same state."""
        for module in self.model.modules():
            restore(module)
        for leaf in list(self.leaves.values()):
            weight = leaf.weight
            weight.data = weight.data.clone()  # its own storage again
            for module, name in leaf.owners:  # one tensor, unless somebody untied it
                owned: Any = module._parameters[name]
                owned.requires_grad_(True)
            weight.__dict__.pop("_so_sampled", None)
            if leaf.values.grad is not None:  # of an accumulation that has not ended
                weight.grad = torch.zeros_like(weight)
                write_entries(weight.grad, leaf.positions(), leaf.values.grad)
            self.optimizer._exchange(leaf.values, weight, None)
        self.leaves = {}

    def __enter__(self) -> "Sampling":
        return self

    def __exit__(self, *error: object) -> None:
        self.undo()

    def __repr__(self) -> str:
        """One line per weight: its path, and what the last forward pass kept for it."""
        if not self.leaves:
            return "Sampling(undone)"
        lines = [self._describe(*each) for each in self.leaves.items()]
        return "\n".join([f"Sampling(memory={self.memory!r}, {len(lines)} weights)", *lines])

    def _describe(self, weight: Tensor, leaf: Leaf) -> str:
        """A weight, its entries, its path."""
        owners: list[tuple[Any, str]] = leaf.owners
        kinds = ((type(module)._so_made_of[0], name) for module, name in owners)
        ways = list(dict.fromkeys(takes_part(kind, name) for kind, name in kinds))
        kept = f", keeps {leaf.path}" if leaf.path and "sampled" in ways[0] else ""
        size = f"{len(leaf.values)} of {leaf.weight.numel()}"
        return f"  {self.names[weight]}: {size}, {' and '.join(ways)}{kept}"

    def _sample(self, weight: Any, owners: list[tuple[nn.Module, str]]) -> Leaf:
        """Freeze a weight and give its place in the optimizer to a leaf."""
        states = self.optimizer.state
        stepped = weight in states
        leaf = Leaf(owners, self.optimizer.coming_support(weight))
        if not stepped:  # torch's checkpoints take an optimizer with any state for initialised
            states.pop(weight, None)
        if weight.grad is not None:  # of an accumulation that has begun
            leaf.values.grad = weight.grad.flatten()[leaf.positions()].to(leaf.values.dtype)
        weight.grad = None
        weight.requires_grad_(False)
        weight._so_sampled = True
        self.optimizer._exchange(weight, leaf.values, leaf)
        return leaf

    def _change_modules(self, owners: Owners) -> None:
        """Give every module that has a part in it its other forward."""
        leaves: dict[nn.Module, dict[str, Leaf]] = {}
        for weight, used in owners.items():
            for module, name in used:
                leaves.setdefault(module, {})[name] = self.leaves[weight]
        for module, named in leaves.items():
            sample_module(module, sampled_kind(module, named), named)
        for module in list(self.model.modules()):
            name = activation_of(module)
            if module in leaves:
                continue
            if is_plain_norm(module):
                become(module, Norm)
            elif name is not None:
                become(module, Activation)
                module.__dict__["_so_activation"] = name
        recompute(self.model, self.memory)


def check_can_sample(optimizer: "SO", model: nn.Module, memory: str) -> None:
    """Refuse what cannot be sampled, before anything is changed.

    Args:
        optimizer: Trains (some of) the model's weights.
        model: A plain module.
        memory: A level.

    Raises:
        ValueError: With the argument, the value and the fix.
    """
    if memory not in MEMORY:
        raise ValueError(
            f"memory must be one of {list(MEMORY)} but is {memory!r}: pass e.g. 'free'"
        )
    if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
        raise ValueError(
            f"model is wrapped in {type(model).__name__}: sample the gradients of the plain model "
            "first, then wrap it, so that the wrapper finds the compact leaves"
        )
    if any(hasattr(type(module), "_so_made_of") for module in model.modules()):
        raise ValueError(
            "model is already sampled: call undo() on what sample_gradients returned before, or "
            "use it as a context manager"
        )
    missing = [
        f"{tuple(weight.shape)}"
        for weight in _sparse(optimizer)
        if weight not in set(model.parameters())
    ]
    if missing:
        for name, parameter in model.named_parameters():
            refuse_sharded(parameter, f"{name!r} in model")
        raise ValueError(
            f"model does not hold {len(missing)} of the optimizer's weights (shapes "
            f"{', '.join(missing[:3])}): pass the model whose parameters the optimizer was given"
        )


def _sparse(optimizer: "SO") -> list[Any]:
    """Weights of an optimizer that have a support."""
    return [
        weight
        for group in optimizer.param_groups
        for weight in group["params"]
        if not trains_densely(weight, group) and weight.requires_grad
    ]


def _by_size(optimizer: "SO") -> list[Any]:
    """Sparse weights as packs order them: those of equal size together."""
    return sorted(_sparse(optimizer), key=lambda weight: weight.numel())


def _owners(optimizer: "SO", model: nn.Module) -> Owners:
    """Modules that use each sparse weight; recurrent layers hide theirs from Python."""
    owners: Owners = {weight: [] for weight in _sparse(optimizer)}
    hidden: set[Tensor] = set()
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight in owners:
                owners[weight].append((module, name))
                if isinstance(module, nn.RNNBase):
                    hidden.add(weight)
    return {weight: used for weight, used in owners.items() if weight not in hidden}
