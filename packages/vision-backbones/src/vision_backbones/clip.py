"""CLIP of open_clip: an image tower, and a text tower that turns class names into a head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.nn import functional as F

from vision_backbones.backbone import Backbone, Batch
from vision_backbones.catalog import BackboneSpec
from vision_backbones.heads import ZeroShotHead, class_features, linear_head
from vision_backbones.prompts import PromptCache, encode_text, prompt_tokens, text_parameters
from vision_backbones.split import split_attention
from vision_backbones.tiny import tiny_clip

if TYPE_CHECKING:
    from open_clip.model import CLIP


class ClipBackbone(Backbone):
    """An open_clip CLIP that classifies by its class prompts, or by a linear head if asked.

    Features are image features of length 1. With the zero-shot head every training step encodes
    the prompts again, so gradients reach both towers; without gradients the prompts are encoded
    once and kept.
    """

    # open_clip sets its towers' parts in ways that a type checker reads as "tensor or module".
    model: Any

    def __init__(
        self,
        spec: BackboneSpec,
        model: CLIP,
        class_names: tuple[str, ...],
        templates: tuple[str, ...],
    ) -> None:
        super().__init__(spec, model, class_names, templates)
        self._prompts = PromptCache()

    @staticmethod
    def build(spec: BackboneSpec, pretrained: bool) -> CLIP:
        """The library's module, with random weights or those the library downloads."""
        if spec.bundled:
            return tiny_clip()
        import open_clip

        architecture, _, weights = spec.source.partition("/")
        if pretrained:
            return cast("CLIP", open_clip.create_model(architecture, pretrained=weights))
        settings: dict[str, Any] = open_clip.get_model_config(architecture) or {}
        return open_clip.CLIP(**_merged(settings, spec.options))

    @staticmethod
    def weights_address(spec: BackboneSpec) -> str:
        """Where a person finds the file that `checkpoint` takes."""
        architecture, _, weights = spec.source.partition("/")
        return (
            f"open_clip_model.safetensors of open_clip's {architecture!r}, pretrained={weights!r}"
        )

    def make_head(self, class_names: tuple[str, ...], templates: tuple[str, ...]) -> nn.Module:
        """The zero-shot head of these classes."""
        tokens = prompt_tokens(self.spec, class_names, templates)
        return ZeroShotHead(tokens.to(self.model.logit_scale.device), len(class_names))

    def forward(self, batch: Batch) -> torch.Tensor:
        """Logits `(batch, classes)`: scaled cosines, or the linear head's."""
        features = self.features(batch)
        if self.zero_shot:
            return self.head(features, self.class_weights())
        return self.head(features)

    def features(self, batch: Batch) -> torch.Tensor:
        """Image features of length 1, `(batch, width)`."""
        return F.normalize(self.model.encode_image(self._read_image(batch)), dim=-1)

    def class_weights(self) -> torch.Tensor:
        """The class vectors times the model's scale, `(classes, width)`: the zero-shot head.

        Returns:
            A weight for a linear layer on `features`.

        Raises:
            ValueError: The head is a linear layer, so there are no prompts.
        """
        if not isinstance(self.head, ZeroShotHead):
            raise ValueError("the head is linear already: its weights are backbone.head.weight")
        prompts = self._prompts.features(
            lambda tokens: encode_text(self.model, tokens),
            self.head.tokens,
            text_parameters(self.model),
        )
        return self.model.logit_scale.exp() * class_features(prompts, self.head.classes)

    def blocks(self) -> list[nn.Module]:
        """The image tower's blocks, then the text tower's while class prompts are in use."""
        return [block for tower in self.towers().values() for block in tower]

    def towers(self) -> dict[str, list[nn.Module]]:
        """The blocks of the image tower, and of the text tower while class prompts are in use."""
        towers = {"image": list(self.model.visual.transformer.resblocks)}
        if self.zero_shot:
            towers["text"] = list(self.model.transformer.resblocks)
        return towers

    @property
    def zero_shot(self) -> bool:
        """Whether the head comes from the class names; false after `use_linear_head`."""
        return isinstance(self.head, ZeroShotHead)

    def split_attention(self) -> None:
        """Give every attention `q_proj`, `k_proj`, `v_proj` and `out_proj`; outputs stay equal."""
        split_attention(self.model)

    def use_linear_head(self) -> None:
        """Turn the class prompts into a linear head, which starts at the zero-shot logits."""
        if not self.zero_shot:
            return
        with torch.no_grad():
            weights = self.class_weights()
        classes, width = weights.shape
        head = linear_head(width, classes).to(weights)
        head.weight = nn.Parameter(weights.clone())
        self.head = head


def _merged(settings: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with some changed, those of a tower one by one."""
    merged = dict(settings)
    for name, value in changes.items():
        inner = merged.get(name)
        merged[name] = inner | value if isinstance(inner, dict) else value
    return merged
