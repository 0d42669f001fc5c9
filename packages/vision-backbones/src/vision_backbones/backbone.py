"""The one interface of all backbones: a batch goes in, logits come out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from vision_backbones.catalog import BackboneSpec
from vision_backbones.heads import linear_head
from vision_backbones.select import ROLES, TOWERS, checked_roles, positions, roles_of
from vision_backbones.text import TextEncoder

Batch = dict[str, torch.Tensor]
Part = TypeVar("Part", nn.Linear, nn.Parameter)


class Backbone(nn.Module):
    r"""A pretrained model and a head: features $f = g(x)$, logits $z = h(f)$.

    `model` is the library's own module, `head` turns its features into logits. Names that
    `matrices` and `linears` return are dotted names inside the backbone: they work as PEFT's
    `target_modules` and with `get_parameter` and `get_submodule`.

    Made by `load_backbone`; each family (`vit.py`, `clip.py`, `bert.py`) fills in how the
    library builds it, how features are computed and where the blocks are.

    Args:
        spec: The catalog's record.
        model: The library's module.
        class_names: One name per class.
        templates: Sentences with `{}` where the name goes; read by CLIP only.

    Examples:
        >>> from vision_backbones import load_backbone
        >>> backbone = load_backbone("tiny-vit", class_names=["circle", "square"])
        >>> backbone({"image": torch.zeros(4, 3, 32, 32)}).shape
        torch.Size([4, 2])
    """

    model: Any

    def __init__(
        self,
        spec: BackboneSpec,
        model: nn.Module,
        class_names: tuple[str, ...],
        templates: tuple[str, ...],
    ) -> None:
        super().__init__()
        self.spec = spec
        self.classes = len(class_names)
        self.model = model
        self.head = self.make_head(class_names, templates)
        self.checkpoint: Path | None = None  # the file that the weights came from

    @staticmethod
    def build(spec: BackboneSpec, pretrained: bool) -> nn.Module:
        """The library's module, with random weights or those the library downloads."""
        raise NotImplementedError

    @staticmethod
    def weights_address(spec: BackboneSpec) -> str:
        """Where a person finds the file that `checkpoint` takes."""
        raise NotImplementedError

    def make_head(self, class_names: tuple[str, ...], templates: tuple[str, ...]) -> nn.Module:
        """From features `(batch, width)` to logits `(batch, classes)`: linear, zero at first."""
        return linear_head(self.spec.width, len(class_names))

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits of a batch.

        Args:
            batch: `image` `(batch, channels, size, size)`, or `input_ids` and `attention_mask`
                `(batch, tokens)`; other entries, such as `label`, are not read.

        Returns:
            Logits `(batch, classes)`.

        Raises:
            ValueError: An entry is missing or has another shape than the backbone takes.
        """
        return self.head(self.features(batch))

    def features(self, batch: Batch) -> torch.Tensor:
        """Feature vectors of a batch, `(batch, width)`: what the head sees."""
        raise NotImplementedError

    def blocks(self) -> list[nn.Module]:
        """The transformer blocks that the forward pass uses, from input to output."""
        raise NotImplementedError

    def towers(self) -> dict[str, list[nn.Module]]:
        """The blocks of each tower, `"image"` or `"text"`, from input to output."""
        return {self.spec.modality: self.blocks()}

    def chosen_blocks(self, blocks: str = "all", tower: str = "both") -> list[nn.Module]:
        """The blocks that a selector names, counted in each tower for itself.

        Args:
            blocks: `"all"`, `"top3"`, `"half-up"`, …, or indices; see `select.positions`.
            tower: `"image"`, `"text"` or `"both"`: all that the forward pass uses.

        Raises:
            ValueError: The selector is unknown, or the backbone has no such tower.
        """
        towers = self.towers()
        if tower not in TOWERS or (tower != "both" and tower not in towers):
            known = ", ".join(towers)
            raise ValueError(f"unknown tower={tower!r}: {self.spec.name} has {known}, or both")
        names = list(towers) if tower == "both" else [tower]
        return [towers[n][i] for n in names for i in positions(blocks, len(towers[n]))]

    def layers(
        self, roles: Sequence[str] = ROLES, blocks: str = "all", tower: str = "both"
    ) -> dict[str, nn.Linear]:
        """The linear layers with some role in some blocks: what an adapter wraps.

        Args:
            roles: Some of `q`, `k`, `v`, `out`, `fc1`, `fc2`; a packed projection has three.
            blocks: Selector of blocks, see `chosen_blocks`.
            tower: `"image"`, `"text"` or `"both"`.

        Returns:
            Layers by dotted name, those of `linears` in its order.

        Raises:
            ValueError: A role, the selector or the tower is unknown.
        """
        return self._chosen(self.linears(), roles, blocks, tower)

    def weights(
        self, roles: Sequence[str] = ROLES, blocks: str = "all", tower: str = "both"
    ) -> dict[str, nn.Parameter]:
        """The matrices with some role in some blocks: what an optimizer trains.

        Args:
            roles: Some of `q`, `k`, `v`, `out`, `fc1`, `fc2`; a packed projection has three.
            blocks: Selector of blocks, see `chosen_blocks`.
            tower: `"image"`, `"text"` or `"both"`.

        Returns:
            Parameters by dotted name, those of `matrices` in its order.

        Raises:
            ValueError: A role, the selector or the tower is unknown.
        """
        return self._chosen(self.matrices(), roles, blocks, tower)

    @property
    def zero_shot(self) -> bool:
        """Whether the head comes from class names and needs no training."""
        return False

    @property
    def preprocess(self) -> dict[str, Any] | None:
        """How images are prepared (`size`, `mean`, `std`, `channels`, `interpolation`), or None."""
        if self.spec.modality != "image":
            return None
        return {
            "size": self.spec.input_size,
            "mean": self.spec.mean,
            "std": self.spec.std,
            "channels": len(self.spec.mean),
            "interpolation": self.spec.interpolation,
        }

    @property
    def tokenizer(self) -> TextEncoder | None:
        """From a string to `input_ids` and `attention_mask` as lists, or None for images."""
        return None

    def matrices(self) -> dict[str, nn.Parameter]:
        """The 2-D weights inside the blocks by name; a packed projection is one matrix.

        Tables of biases, such as Swin's for relative positions, are not weights of a layer.
        """
        names = self._block_names()
        return {
            name: parameter
            for name, parameter in self.named_parameters()
            if parameter.ndim == 2 and name.endswith("weight") and name.startswith(names)
        }

    def linears(self) -> dict[str, nn.Linear]:
        """The linear layers inside the blocks by name, without those that are never called.

        For CLIP call `split_attention` first: before it the attention's projections are bare
        parameters, and its output layer is read but not called, so an adapter there would do
        nothing.
        """
        names = self._block_names()
        packed = tuple(
            f"{name}." for name, m in self.named_modules() if isinstance(m, nn.MultiheadAttention)
        )
        return {
            name: module
            for name, module in self.named_modules()
            if isinstance(module, nn.Linear)
            and name.startswith(names)
            and not name.startswith(packed)
        }

    def head_parameters(self) -> list[nn.Parameter]:
        """The head's own parameters: none for a zero-shot head."""
        return list(self.head.parameters())

    def split_attention(self) -> None:
        """Give attention `q_proj`, `k_proj`, `v_proj` and `out_proj`, where it is packed (CLIP)."""

    def split_qkv(self) -> None:
        """Make query, key and value three layers wherever they are one; outputs stay equal."""
        self.split_attention()

    def use_linear_head(self) -> None:
        """Make the head a linear layer on the features, where it is not one already (CLIP)."""

    def _block_names(self) -> tuple[str, ...]:
        """Dotted prefixes of the blocks."""
        return self._names_of(self.blocks())

    def _chosen(
        self, named: dict[str, Part], roles: Sequence[str], blocks: str, tower: str
    ) -> dict[str, Part]:
        """Those of some layers or matrices that have one of the roles in the chosen blocks."""
        inside, asked = self._names_of(self.chosen_blocks(blocks, tower)), {*checked_roles(roles)}
        return {
            name: part
            for name, part in named.items()
            if name.startswith(inside) and asked & set(roles_of(name))
        }

    def _names_of(self, blocks: list[nn.Module]) -> tuple[str, ...]:
        """Dotted prefixes of some modules."""
        wanted = {id(block) for block in blocks}
        return tuple(f"{name}." for name, m in self.named_modules() if id(m) in wanted)

    def _read_image(self, batch: Batch) -> torch.Tensor:
        """The images of a batch, checked."""
        image = self._read(batch, "image")
        size = self.spec.input_size
        expected = (len(self.spec.mean), size, size)
        if image.ndim != 4 or tuple(image.shape[1:]) != expected:
            raise ValueError(
                f"batch['image'] has shape {tuple(image.shape)}, but {self.spec.name} takes "
                f"(batch, {', '.join(map(str, expected))}): prepare images with its `preprocess`"
            )
        return image

    def _read(self, batch: Batch, key: str) -> torch.Tensor:
        """One entry of a batch that must be there."""
        if key not in batch:
            raise ValueError(
                f"{self.spec.name} reads batch[{key!r}], but the batch has "
                f"{', '.join(map(repr, batch)) or 'nothing'}: use {self.spec.modality} data"
            )
        return batch[key]
