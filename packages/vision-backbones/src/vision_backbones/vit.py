"""Vision transformers of timm."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from vision_backbones.backbone import Backbone, Batch, State
from vision_backbones.catalog import BackboneSpec
from vision_backbones.tiny import tiny_vit

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class VitBackbone(Backbone):
    """A timm vision transformer with a zero-initialised linear head on its pooled features."""

    model: VisionTransformer

    @staticmethod
    def build(spec: BackboneSpec, pretrained: bool) -> VisionTransformer:
        """The library's module, with random weights or those the library downloads."""
        if spec.bundled:
            return tiny_vit()
        import timm

        model = timm.create_model(spec.source, pretrained=pretrained, num_classes=0)
        return cast("VisionTransformer", model)

    @staticmethod
    def weights_address(spec: BackboneSpec) -> str:
        """Where a person finds the file that `checkpoint` takes."""
        return f"model.safetensors of huggingface.co/timm/{spec.source}"

    @staticmethod
    def own_keys(state: State) -> State:
        """Weights by the library's names, without the classifier of the pretraining task."""
        return {name: t for name, t in state.items() if name not in ("head.weight", "head.bias")}

    def features(self, batch: Batch) -> torch.Tensor:
        """Pooled features `(batch, width)`."""
        return self.model(self._read_image(batch))

    def blocks(self) -> list[nn.Module]:
        """The blocks from input to output."""
        return list(self.model.blocks)
