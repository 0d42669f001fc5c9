"""The list of methods: what each one trains, and with which optimizer.

A method gets a backbone and a configuration and gives a `Tuned`. `prepare` changes the backbone's
structure and is repeated when a saved model is loaded; `build` also freezes, adds adapters and
makes the optimizer.
"""

import copy
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from fewshot_bench import peers
from fewshot_bench.adapting import saved_head, with_adapters
from fewshot_bench.allocation import allocate_while_training
from fewshot_bench.config import RunConfig
from fewshot_bench.fixed_mask import fixed_mask
from fewshot_bench.places import dense_beside, layer_names, output_layers, sparse_names
from fewshot_bench.schema import closest
from fewshot_bench.seeds import derive
from fewshot_bench.trainable import adamw, groups_of, unfreeze
from fewshot_bench.tuned import Tuned

if TYPE_CHECKING:
    from vision_backbones import Backbone, BackboneSpec

__all__ = ["METHODS", "Method", "find_method"]

CLIP_ONLY = ("clip", "its classifier comes from a text tower")


@dataclass(frozen=True)
class Method:
    """One way to adapt a backbone.

    Args:
        name: As on the command line.
        description: One line for lists and tables.
        build: From a prepared backbone and a configuration to what the loop trains.
        prepare: Changes the backbone's structure in place before `build`.
        needs: A backbone family without which it makes no sense, and why.
        peer: Whether it is others' and stands beside ours only where it is asked for.
        package: A package of the extra `peers` that it needs.
    """

    name: str
    description: str
    build: Callable[["Backbone", RunConfig], Tuned]
    prepare: Callable[["Backbone"], None]
    needs: tuple[str, str] | None = None
    peer: bool = False
    package: str = ""

    def __call__(self, backbone: "Backbone", config: RunConfig) -> Tuned:
        """Prepare a backbone, and make of it what the loop trains.

        Args:
            backbone: Changed in place.
            config: The run.

        Returns:
            Model and optimizer.
        """
        self.prepare(backbone)
        return self.build(backbone, config)

    def applies(self, spec: "BackboneSpec") -> str | None:
        """Say why the method cannot be used with a backbone.

        Args:
            spec: The backbone.

        Returns:
            The reason, or `None` when it can.
        """
        if self.package and importlib.util.find_spec(self.package) is None:
            return (
                f"method {self.name!r} needs the package {self.package!r}, which is not "
                "installed: install fewshot-bench with its extra, fewshot-bench[peers]"
            )
        if self.needs is None or spec.family == self.needs[0]:
            return None
        family, why = self.needs
        return (
            f"method {self.name!r} needs a backbone of family {family!r} ({why}), "
            f"not {spec.name!r}: choose another backbone or another method"
        )


def find_method(name: str) -> Method:
    """Look a method up.

    Args:
        name: Its name.

    Returns:
        The entry of `METHODS`.

    Raises:
        ValueError: There is none; the closest name is offered.

    Examples:
        >>> find_method("lora").name
        'lora'
    """
    if name not in METHODS:
        raise ValueError(f"unknown method {name!r}: {closest(name, list(METHODS))}")
    return METHODS[name]


def keep_head(backbone: "Backbone") -> None:
    """Leave the backbone as it comes: class prompts classify for CLIP, a linear layer elsewhere."""


def linear_head(backbone: "Backbone") -> None:
    """Put a linear layer on the features; CLIP's starts as its zero-shot classifier."""
    backbone.use_linear_head()


def split_attention(backbone: "Backbone") -> None:
    """Keep the head, and give it separate query, key and value layers that adapters can wrap."""
    backbone.split_attention()


def zero_shot(backbone: "Backbone", config: RunConfig) -> Tuned:
    """Train nothing: the class names are the classifier."""
    return Tuned(backbone.requires_grad_(False))


def linear_probe(backbone: "Backbone", config: RunConfig) -> Tuned:
    """Train the head on frozen features."""
    body, head = unfreeze(backbone, lambda name: False)
    return Tuned(backbone, adamw(body, head, config))


def full(backbone: "Backbone", config: RunConfig) -> Tuned:
    """Train everything."""
    body, head = unfreeze(backbone, lambda name: True)
    return Tuned(backbone, adamw(body, head, config))


def bias(backbone: "Backbone", config: RunConfig) -> Tuned:
    """Train the bias vectors and the head (BitFit)."""
    body, head = unfreeze(backbone, lambda name: name.endswith("bias"))
    return Tuned(backbone, adamw(body, head, config))


def so(backbone: "Backbone", config: RunConfig) -> Tuned:
    """Train a small moving random support of every matrix of the blocks, and the head densely."""
    from so_optim import SO

    sparse, dense = sparse_names(backbone, config), dense_beside(backbone, config)
    body, head = unfreeze(backbone, sparse.__contains__)
    for parameter in dense.values():
        parameter.requires_grad_(True)
    groups = groups_of(body, head, config, list(dense.values()))
    optimizer = SO(
        [{**group, "dense": group["name"] != "backbone"} for group in groups],
        betas=config.so.betas,
        weight_decay=config.weight_decay,
        density_ratio=config.so.density_ratio,
        T=config.so.T,
        prune=config.so.prune,
        bias_correction=config.so.bias_correction,
        seed=derive(config.seed).support,
    )
    if config.so.memory == "dense":
        return Tuned(backbone, optimizer)
    sampled = partial(optimizer.sample_gradients, backbone, memory=config.so.memory)
    return Tuned(backbone, optimizer, sampled)


def lora(backbone: "Backbone", config: RunConfig) -> Tuned:
    """Add PEFT's low-rank adapters to every linear layer of the blocks; train them and the head."""
    from peft import LoraConfig

    options = config.lora
    return with_adapters(
        backbone,
        config,
        LoraConfig(
            r=options.r,
            lora_alpha=options.alpha,
            lora_dropout=options.dropout,
            use_rslora=options.root_scale,
            target_modules=layer_names(backbone, config),
            modules_to_save=saved_head(backbone),
        ),
    )


def klora(backbone: "Backbone", config: RunConfig) -> Tuned:
    """Add kernelized low-rank updates to every linear layer of the blocks, without sparsity."""
    return _snell(backbone, config, sparsity=0.0, sparsifier="none")


def snell(backbone: "Backbone", config: RunConfig) -> Tuned:
    """Add kernelized low-rank updates, of which only the largest entries survive."""
    options = config.snell
    if options.mask == "fixed":
        return fixed_mask(backbone, config, klora(copy.deepcopy(backbone), config).model)
    tuned = _snell(backbone, config, sparsity=options.sparsity, sparsifier=options.sparsifier)
    return allocate_while_training(tuned, config) if options.budget == "allocated" else tuned


def _snell(backbone: "Backbone", config: RunConfig, *, sparsity: float, sparsifier: str) -> Tuned:
    """Build KLoRA and SNELL, which differ in the sparsity alone."""
    from snell_layers.peft import SnellConfig

    targets = layer_names(backbone, config)
    return with_adapters(
        backbone,
        config,
        SnellConfig(
            r=config.snell.r,
            sparsity=sparsity,
            sparsifier=sparsifier,
            kernel=config.snell.kernel,
            init=config.snell.init,
            dropout=config.snell.dropout,
            dropout_pattern=dict.fromkeys(output_layers(targets), 0.0),
            drop_path=config.snell.drop_path,
            target_modules=targets,
            modules_to_save=saved_head(backbone),
            seed=derive(config.seed).init,
        ),
    )


def _peer(
    name: str, description: str, build: Callable[["Backbone", RunConfig], Tuned], package: str = ""
) -> Method:
    """Make the entry of somebody else's method: adapters wrap linear layers, optimizers all."""
    prepare = keep_head if package else split_attention
    return Method(name, description, build, prepare, peer=True, package=package)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("zero_shot", "class names only, no training", zero_shot, keep_head, CLIP_ONLY),
        Method("linear_probe", "the head on frozen features", linear_probe, linear_head),
        Method("full", "every parameter, with AdamW", full, keep_head),
        Method("bias", "bias vectors and the head (BitFit)", bias, keep_head),
        Method("lora", "low-rank adapters (PEFT's LoRA)", lora, split_attention),
        Method("so", "a moving random support of each matrix (SO)", so, keep_head),
        Method("klora", "kernelized low-rank updates", klora, split_attention),
        Method("snell", "sparse kernelized low-rank updates (SNELL)", snell, split_attention),
        _peer("dora", "low-rank adapters with magnitudes (PEFT's DoRA)", peers.dora),
        _peer("shira", "fixed random entries (PEFT's SHiRA)", peers.shira),
        _peer("supertuning", "the largest entries (PEFT's Super-Tuning)", peers.supertuning),
        _peer("adamw_8bit", "every parameter, 8-bit AdamW", peers.adamw_8bit, "bitsandbytes"),
        _peer("galore", "every parameter, low-rank AdamW (GaLore)", peers.galore, "galore_torch"),
    )
}
