"""LLaMA and its relatives of transformers, from a folder."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from vision_backbones.backbone import Batch
from vision_backbones.bert import TextBackbone
from vision_backbones.catalog import BackboneSpec
from vision_backbones.folder import model_of_folder


class LlamaBackbone(TextBackbone):
    """A causal language model whose features are the last real token's hidden state.

    Texts are padded on the right.
    """

    @staticmethod
    def build(spec: BackboneSpec, pretrained: bool) -> nn.Module:
        """The library's module, with random weights or those of its folder."""
        return model_of_folder(Path(spec.folder), pretrained)

    def features(self, batch: Batch) -> torch.Tensor:
        """Features of the last real token of each text, `(batch, width)`."""
        ids, mask = self._read_ids(batch)
        # Ready-made, as for BERT: transformers would look at the positions' values.
        earlier = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).tril()
        pairs = mask[:, None, None, :].bool() & earlier  # (batch, 1, tokens, tokens)
        hidden = self.model(ids, attention_mask=pairs, use_cache=False).last_hidden_state
        rows = torch.arange(len(ids), device=ids.device)
        return hidden[rows, mask.sum(1).sub(1).clamp(min=0)]

    def blocks(self) -> list[nn.Module]:
        """The decoder's layers from input to output."""
        return list(self.model.layers)
