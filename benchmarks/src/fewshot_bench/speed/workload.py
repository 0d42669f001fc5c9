"""What is measured: a backbone with random weights, its attention and MLP matrices, and a batch."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from vision_backbones import Backbone

__all__ = ["MODELS", "Workload", "make_batch", "make_workload"]

MODELS = ("vit-b-16", "vit-l-16", "vit-h-14", "clip-vit-b-16", "bert-base")
"""The models of the published table; any other name of the catalog works too."""
CLASSES = {"vit": 1000, "bert": 2, "clip": 1}
BERT_TOKENS = 128
"""Positions of a text: those of the released BERT recipe, or all that a smaller model has."""


class ImageTextPairs(nn.Module):
    """CLIP as it is trained: every image of a batch against every text, both towers at work.

    Args:
        backbone: A CLIP; its class prompts are not used.
    """

    def __init__(self, backbone: "Backbone") -> None:
        super().__init__()
        self.model = backbone.model

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Give the scaled cosines `(images, texts)`."""
        image = F.normalize(self.model.encode_image(batch["image"]), dim=-1)
        text = F.normalize(self.model.encode_text(batch["input_ids"]), dim=-1)
        return self.model.logit_scale.exp() * image @ text.mT


@dataclass(frozen=True)
class Workload:
    """A model, and where its transformer blocks are.

    Args:
        name: In the catalog.
        family: `vit`, `clip` or `bert`.
        model: Maps a batch to logits; in training mode, every dropout at zero.
        towers: The blocks of each tower, from input to output.
        input_size: Side of the image.
        tokens: Positions of a text.
        vocabulary: How many token ids there are.
    """

    name: str
    family: str
    model: nn.Module
    towers: tuple[tuple[nn.Module, ...], ...]
    input_size: int
    tokens: int
    vocabulary: int

    def blocks(self) -> Iterator[nn.Module]:
        """Go through the blocks of all towers.

        Yields:
            Each block once.
        """
        for tower in self.towers:
            yield from tower

    def matrices(self) -> dict[str, nn.Parameter]:
        """Find the attention and MLP matrices.

        Returns:
            The 2-D weights inside the blocks, by their name in the model.
        """
        found = self._inside(dict(self.model.named_parameters()))
        return {name: weight for name, weight in found.items() if weight.ndim == 2}

    def linears(self) -> dict[str, nn.Linear]:
        """Find the layers that hold them.

        Returns:
            The linear layers inside the blocks, by their name in the model.
        """
        found = self._inside(dict(self.model.named_modules()))
        return {name: layer for name, layer in found.items() if isinstance(layer, nn.Linear)}

    def _inside(self, named: dict[str, object]) -> dict:
        """Keep what lies inside a block."""
        blocks = {id(block) for block in self.blocks()}
        prefixes = tuple(f"{n}." for n, m in self.model.named_modules() if id(m) in blocks)
        return {name: value for name, value in named.items() if name.startswith(prefixes)}


def make_workload(
    name: str,
    depth: int | None = None,
    *,
    meta: bool = False,
    split: bool = False,
    device: str = "cpu",
) -> Workload:
    """Build a model with random weights.

    Args:
        name: A backbone of the catalog.
        depth: Blocks to keep in each tower; `None` keeps all.
        meta: Build it without memory, for a simulation.
        split: Take packed attention apart into linear layers, which stock LoRA needs.
        device: Where weights are drawn and stay; a GPU draws a large model's in no time.

    Returns:
        The workload, everything trainable, on the device or on none.

    Raises:
        ValueError: There is no such backbone, or it has fewer blocks.

    Examples:
        >>> sorted(make_workload("tiny-vit", depth=1).matrices())[:2]
        ['model.blocks.0.attn.proj.weight', 'model.blocks.0.attn.qkv.weight']
    """
    from vision_backbones import load_backbone
    from vision_backbones.catalog import find

    spec = find(name)
    names = [f"class {number}" for number in range(CLASSES[spec.family])]
    with torch.device("meta" if meta else device):
        backbone = load_backbone(name, class_names=names, checkpoint="random")
        if split:
            backbone.split_attention()
    towers = [_shorten(tower, depth, name) for tower in _towers(backbone)]
    model = ImageTextPairs(backbone) if spec.family == "clip" else backbone
    _without_dropout(model)
    for weight in backbone.head_parameters():  # zeros would send no gradient back
        nn.init.normal_(weight, std=0.02, generator=_generator(weight))
    tokens, vocabulary = _text_shape(backbone)
    return Workload(name, spec.family, model, tuple(towers), spec.input_size, tokens, vocabulary)


def make_batch(workload: Workload, size: int) -> dict[str, Tensor]:
    """Make inputs and labels: random numbers, the same in every call.

    Args:
        workload: Whose inputs.
        size: Examples; CLIP gets as many images and as many texts.

    Returns:
        A batch on the CPU, or of simulated tensors inside a simulation.
    """
    draw = torch.Generator().manual_seed(0)
    batch = {}
    if workload.family != "bert":
        side = workload.input_size
        batch["image"] = torch.randn(size, 3, side, side, generator=draw)
    if workload.family != "vit":
        shape = (size, workload.tokens)
        batch["input_ids"] = torch.randint(workload.vocabulary, shape, generator=draw)
        batch["attention_mask"] = torch.ones(shape, dtype=torch.int64)
    classes = size if workload.family == "clip" else CLASSES[workload.family]
    batch["label"] = torch.arange(size) % classes
    return batch


def _towers(backbone: "Backbone") -> list[nn.Module]:
    """Find the containers of the blocks: one, or CLIP's image and text towers."""
    model = backbone.model
    match backbone.spec.family:
        case "vit":
            return [model.blocks]
        case "bert":
            return [model.encoder.layer]
        case _:
            return [model.visual.transformer.resblocks, model.transformer.resblocks]


def _shorten(tower: nn.Module, depth: int | None, name: str) -> tuple[nn.Module, ...]:
    """Keep the first blocks of a tower."""
    blocks = len(list(tower.children()))
    if depth is not None and not 1 <= depth <= blocks:
        raise ValueError(f"--depth must be between 1 and {blocks} for {name}, got {depth}")
    for _ in range(blocks - (depth or blocks)):
        del tower[-1]  # type: ignore[attr-defined]
    return tuple(tower.children())


def _without_dropout(model: nn.Module) -> None:
    """Train without dropout; evaluation mode would do too but for torch's inference shortcuts."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def _generator(weight: Tensor) -> torch.Generator | None:
    """Seed a generator, where there are values to draw."""
    return None if weight.is_meta else torch.Generator(weight.device).manual_seed(0)


def _text_shape(backbone: "Backbone") -> tuple[int, int]:
    """Give the positions of a text and the size of the vocabulary; zeros where there is no text."""
    model = backbone.model
    match backbone.spec.family:
        case "bert":
            return min(BERT_TOKENS, backbone.spec.input_size), model.config.vocab_size
        case "clip":
            return model.context_length, model.vocab_size
        case _:
            return 0, 0
