"""Image models of timm: vision transformers, Swin and ConvNeXt."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from vision_backbones.backbone import Backbone, Batch
from vision_backbones.catalog import BackboneSpec
from vision_backbones.split import split_qkv
from vision_backbones.tiny import tiny_vit


class TimmBackbone(Backbone):
    """A model of timm with a zero-initialised linear head on its pooled features."""

    model: Any

    @staticmethod
    def build(spec: BackboneSpec, pretrained: bool) -> nn.Module:
        """The library's module, with random weights or those the library downloads."""
        if spec.bundled:
            return tiny_vit()
        import timm

        options: dict[str, Any] = dict(spec.options)
        return timm.create_model(spec.source, pretrained=pretrained, num_classes=0, **options)

    @staticmethod
    def weights_address(spec: BackboneSpec) -> str:
        """Where a person finds the file that `checkpoint` takes."""
        return f"model.safetensors of huggingface.co/timm/{spec.source}"

    def features(self, batch: Batch) -> torch.Tensor:
        """Pooled features `(batch, width)`."""
        return self.model(self._read_image(batch))

    def split_qkv(self) -> None:
        """Make query, key and value three layers; outputs stay equal up to rounding."""
        split_qkv(self.model)


class VitBackbone(TimmBackbone):
    """A vision transformer: features are the class token, or the mean token of `tiny-vit`."""

    def blocks(self) -> list[nn.Module]:
        """The blocks from input to output."""
        return list(self.model.blocks)


class SwinBackbone(TimmBackbone):
    """A Swin transformer: its blocks are those of all four stages."""

    def blocks(self) -> list[nn.Module]:
        """The blocks from input to output; merging layers between stages are not among them."""
        return [block for stage in self.model.layers for block in stage.blocks]


class ConvNextBackbone(TimmBackbone):
    """A ConvNeXt: in each block a depthwise convolution and the two linear layers after it."""

    def blocks(self) -> list[nn.Module]:
        """The blocks from input to output; convolutions between stages are not among them."""
        return [block for stage in self.model.stages for block in stage.blocks]
