"""The variants that are compared: what each does to a model, and its optimizer."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fewshot_bench.schema import closest
from fewshot_bench.speed.peer_models import adamw_8bit, galore, peer_adapter
from fewshot_bench.speed.snell_models import (
    SPARSITY,
    as_installed,
    our_snell,
    plain_torch,
    released_snell,
)
from fewshot_bench.speed.so_models import dense_so, released_so, sampled_so
from fewshot_bench.speed.strong_lora import add_strong_lora
from fewshot_bench.speed.workload import Workload
from fewshot_bench.tuned import Tuned

__all__ = ["VARIANTS", "Choice", "Variant", "choices", "loss_of", "train_step"]

RANK, ALPHA = 8, 16
LR = 1e-4


@dataclass(frozen=True)
class Choice:
    """A variant at a density.

    Args:
        variant: A name in `VARIANTS`.
        density: The trained fraction of each matrix; `None` where there is none.
        release: The clone of the release, for the variant that needs it.
        simulated: Tensors have no values, so supports are made up without drawing.
        graph: The step is to be captured in a CUDA graph.
    """

    variant: str
    density: float | None = None
    release: Path | None = None
    simulated: bool = False
    graph: bool = False

    @property
    def label(self) -> str:
        """The name in tables."""
        return self.variant if self.density is None else f"{self.variant} {self.density:g}"


@dataclass(frozen=True)
class Variant:
    """One way to train.

    Args:
        name: As on the command line.
        description: One line.
        shape: Freezes, wraps and replaces; works on weights without values.
        optimizer: Makes the optimizer once the weights are there; `None` trains nothing.
        has_density: Whether it is measured at every density.
        split: Whether it needs packed attention taken apart.
        budget: The share of activations that torch.compile may save; `None` compiles nothing.
        traceable: Whether its optimizer can step on tensors without values.
        clone: Whose release it needs.
        real: Whether it looks at values all the time, so that memory is counted in a real step.
        context: In what its steps are done.
    """

    name: str
    description: str
    shape: Callable[[Workload, Choice], nn.Module]
    optimizer: "MakeOptimizer"
    has_density: bool = False
    split: bool = False
    traceable: bool = True
    budget: float | None = None
    clone: Literal["so", "snell"] | None = None
    real: bool = False
    context: Callable[[Choice], AbstractContextManager[Any]] = lambda choice: nullcontext()


MakeOptimizer = Callable[[Workload, nn.Module, Choice], Optimizer | None]


def choices(
    names: tuple[str, ...],
    densities: tuple[float, ...],
    clones: Mapping[str, Path | None] | None = None,
) -> list[Choice]:
    """List what is measured, in the order of the names.

    Args:
        names: Variants.
        densities: For those that have one.
        clones: Where the releases are, "so" and "snell".

    Returns:
        One entry per variant and density.

    Raises:
        ValueError: There is no such variant.

    Examples:
        >>> [c.label for c in choices(("floor", "so-dense"), (5e-5, 1e-3))]
        ['floor', 'so-dense 5e-05', 'so-dense 0.001']
    """
    found = []
    for name in names:
        if name not in VARIANTS:
            raise ValueError(f"unknown variant {name!r}: {closest(name, list(VARIANTS))}")
        variant = VARIANTS[name]
        own = densities if variant.has_density else (None,)
        release = (clones or {}).get(variant.clone or "")
        found += [Choice(name, density, release) for density in own]
    return found


def loss_of(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Compute the loss of a batch: what every variant minimises.

    Args:
        model: Maps a batch to logits.
        batch: Inputs and labels.

    Returns:
        The mean cross-entropy, in fp32.
    """
    return nn.functional.cross_entropy(model(batch).float(), batch["label"])


def train_step(tuned: Tuned, batch: dict[str, Tensor]) -> None:
    """Do one training step: forward, backward, optimizer.

    Args:
        tuned: A model, and an optimizer or none.
        batch: Inputs and labels.
    """
    loss_of(tuned.model, batch).backward()
    if tuned.optimizer is not None:
        tuned.optimizer.step()
        tuned.optimizer.zero_grad(set_to_none=True)


def frozen(workload: Workload, choice: Choice) -> nn.Module:
    """Train nothing, but have the gradient go back to the embedding."""
    workload.model.requires_grad_(False)
    for tower in workload.towers:
        tower[0].register_forward_pre_hook(_ask_for_gradient)
    return workload.model


def matrices_only(workload: Workload, choice: Choice) -> nn.Module:
    """Train the matrices, all of their entries."""
    workload.model.requires_grad_(False)
    for weight in workload.matrices().values():
        weight.requires_grad_(True)
    return workload.model


def stock_lora(workload: Workload, choice: Choice) -> nn.Module:
    """Add PEFT's LoRA to every linear layer of the blocks."""
    from peft import LoraConfig, get_peft_model

    names = list(workload.linears())
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=names)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return get_peft_model(workload.model, config)  # type: ignore[arg-type]


def strong_lora(workload: Workload, choice: Choice) -> nn.Module:
    """Add our own LoRA, which computes LayerNorm and activation outputs again."""
    add_strong_lora(workload.model, workload.blocks(), workload.linears(), RANK)
    return workload.model


def no_optimizer(workload: Workload, model: nn.Module, choice: Choice) -> None:
    """Have no optimizer."""


def adamw(workload: Workload, model: nn.Module, choice: Choice) -> Optimizer:
    """Make torch's AdamW, many tensors at a time."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trained, LR, foreach=True, capturable=choice.graph)


def _ask_for_gradient(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Make a block's input a leaf that wants a gradient."""
    return (inputs[0].detach().requires_grad_(True), *inputs[1:])


def _compiled(name: str, budget: float) -> Variant:
    """Make the entry of stock LoRA under torch.compile, which then computes activations again."""
    description = f"lora, torch.compile, activation budget {budget}"
    return Variant(name, description, stock_lora, adamw, split=True, budget=budget)


def _so(name: str, description: str, optimizer: MakeOptimizer, **more: Any) -> Variant:
    """Make the entry of an optimizer with a density; all of them look at values in their steps."""
    more |= {"has_density": True, "traceable": False}
    return Variant(name, description, matrices_only, optimizer, **more)


def _snell(
    name: str, description: str, sparsity: float = SPARSITY, memory: str = "free"
) -> Variant:
    """Make the entry of our SNELL, with the kernels that there are."""
    return Variant(name, description, our_snell(sparsity, memory), adamw, context=as_installed)


def _peer(name: str, description: str, **more: Any) -> Variant:
    """Make the entry of somebody else's adapter."""
    return Variant(name, description, peer_adapter(name), adamw, split=True, **more)


def _full(name: str, description: str, optimizer: MakeOptimizer) -> Variant:
    """Make the entry of somebody else's optimizer of all entries, which looks at their values."""
    return Variant(name, description, matrices_only, optimizer, real=True)


def _released_snell(name: str, description: str, sparsity: float) -> Variant:
    """Make the entry of the published SNELL."""
    return Variant(name, description, released_snell(sparsity), adamw, clone="snell")


VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("floor", "frozen, gradient back to the embedding", frozen, no_optimizer),
        Variant("full", "every entry of the matrices, AdamW (foreach)", matrices_only, adamw),
        Variant("lora", "PEFT's LoRA, r 8, no dropout, AdamW", stock_lora, adamw, split=True),
        Variant("strong-lora", "LoRA that saves 10 units a block", strong_lora, adamw, split=True),
        _compiled("lora-compiled", 0.9),
        _compiled("lora-compiled-half", 0.5),
        _so("released-so", "published SO, stable sort", released_so, clone="so"),
        _so("so-dense", "SO, dense gradients", dense_so),
        _so("so-free", "SO, sampled gradients, memory for free", sampled_so("free")),
        _so("so-low", "SO, sampled gradients, fc1 again", sampled_so("low")),
        _so("so-minimal", "SO, sampled gradients, fc1 and qkv again", sampled_so("minimal")),
        _released_snell("released-klora", "published KLoRA, r 8", 0.0),
        _released_snell("released-snell", "published SNELL, r 8, sparsity 0.9", SPARSITY),
        _snell("klora", "SNELL at sparsity 0, r 8", sparsity=0.0),
        _snell("snell", "SNELL, r 8, sparsity 0.9, kernels where there are any"),
        _peer("dora", "PEFT's DoRA, r 8"),
        _peer("shira", "PEFT's SHiRA, as many numbers", real=True),
        _peer("supertuning", "PEFT's Super-Tuning, as many numbers"),
        _full("adamw-8bit", "every entry, bitsandbytes' AdamW", adamw_8bit),
        _full("galore", "every entry, GaLore's AdamW, rank 8", galore),
        replace(_snell("snell-torch", "SNELL in plain torch"), context=plain_torch),
        _snell("snell-low", "SNELL, the MLP's hidden layer again", memory="low"),
    )
}
