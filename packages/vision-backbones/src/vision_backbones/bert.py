"""BERT and its relatives of transformers: the text control."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from vision_backbones.backbone import Backbone, Batch
from vision_backbones.catalog import BackboneSpec
from vision_backbones.folder import model_of_folder
from vision_backbones.text import TextEncoder
from vision_backbones.tiny import tiny_bert
from vision_backbones.vocabulary import text_encoder

NO_SEGMENTS = ("distilbert",)  # their models take no token_type_ids


class TextBackbone(Backbone):
    """What the text models of transformers share: ids and mask in, their vocabulary beside them."""

    model: Any

    def __init__(
        self,
        spec: BackboneSpec,
        model: nn.Module,
        class_names: tuple[str, ...],
        templates: tuple[str, ...],
    ) -> None:
        super().__init__(spec, model, class_names, templates)
        self._tokenizer: TextEncoder | None = None

    @staticmethod
    def weights_address(spec: BackboneSpec) -> str:
        """Where a person finds the file that `checkpoint` takes."""
        return f"model.safetensors and tokenizer.json of huggingface.co/{spec.source}"

    @property
    def tokenizer(self) -> TextEncoder:
        """From a string to ids with special tokens and their mask; read when first asked for."""
        if self._tokenizer is None:
            self._tokenizer = text_encoder(self.spec, self.checkpoint)
        return self._tokenizer

    def _read_ids(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask of a batch, checked."""
        ids = self._read(batch, "input_ids")
        mask = self._read(batch, "attention_mask")
        if ids.ndim != 2 or ids.shape[1] > self.spec.input_size:
            raise ValueError(
                f"batch['input_ids'] has shape {tuple(ids.shape)}, but {self.spec.name} takes "
                f"(batch, at most {self.spec.input_size}): make ids with its `tokenizer`"
            )
        return ids, mask


class BertBackbone(TextBackbone):
    """A BERT encoder with a zero-initialised linear head.

    Features are the pooler's output where the model has a pooler, which its authors trained for
    the purpose; otherwise the mean of the last hidden states over the real tokens.
    """

    @staticmethod
    def build(spec: BackboneSpec, pretrained: bool) -> nn.Module:
        """The library's module, with random weights or those the library downloads."""
        if spec.bundled:
            return tiny_bert()
        if spec.folder:
            return model_of_folder(Path(spec.folder), pretrained)
        from transformers import BertConfig, BertModel

        if pretrained:
            return BertModel.from_pretrained(spec.source)
        return BertModel(BertConfig(**dict(spec.options)))

    def features(self, batch: Batch) -> torch.Tensor:
        """Sentence features `(batch, width)`."""
        ids, mask = self._read_ids(batch)
        # Ready-made, because transformers would look at the mask's values to see if it can be left
        # out: a wait for the GPU, impossible on simulated tensors, another kernel for some batches.
        pairs = mask[:, None, None, :].bool().expand(-1, 1, ids.shape[1], -1)
        segments: dict[str, torch.Tensor | None] = {"token_type_ids": batch.get("token_type_ids")}
        if self.model.config.model_type in NO_SEGMENTS:
            segments = {}
        output = self.model(ids, attention_mask=pairs, **segments)
        if getattr(output, "pooler_output", None) is not None:
            return output.pooler_output
        real = mask.unsqueeze(-1).to(output.last_hidden_state.dtype)  # (batch, tokens, 1)
        return (output.last_hidden_state * real).sum(1) / real.sum(1).clamp(min=1)

    def blocks(self) -> list[nn.Module]:
        """The encoder's layers from input to output."""
        body = self.model.encoder if hasattr(self.model, "encoder") else self.model.transformer
        return list(body.layer)
