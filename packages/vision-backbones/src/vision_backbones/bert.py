"""BERT of transformers: the text control."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from vision_backbones.backbone import Backbone, Batch, State
from vision_backbones.catalog import BackboneSpec
from vision_backbones.text import BertText
from vision_backbones.tiny import tiny_bert, tiny_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import BertModel

HEADS_OF_PRETRAINING = ("cls.", "embeddings.position_ids", "classifier.")
OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


class BertBackbone(Backbone):
    """A BERT encoder with a zero-initialised linear head.

    Features are the pooler's output where the model has a pooler, which its authors trained for
    the purpose; otherwise the mean of the last hidden states over the real tokens.
    """

    model: BertModel

    def __init__(
        self,
        spec: BackboneSpec,
        model: BertModel,
        class_names: tuple[str, ...],
        templates: tuple[str, ...],
    ) -> None:
        super().__init__(spec, model, class_names, templates)
        self._tokenizer: BertText | None = None

    @staticmethod
    def build(spec: BackboneSpec, pretrained: bool) -> BertModel:
        """The library's module, with random weights or those the library downloads."""
        if spec.bundled:
            return tiny_bert()
        from transformers import BertConfig, BertModel

        return BertModel.from_pretrained(spec.source) if pretrained else BertModel(BertConfig())

    @staticmethod
    def weights_address(spec: BackboneSpec) -> str:
        """Where a person finds the file that `checkpoint` takes."""
        return f"model.safetensors and tokenizer.json of huggingface.co/{spec.source}"

    @staticmethod
    def own_keys(state: State) -> State:
        """Weights by the library's present names, without the heads of the pretraining tasks."""
        renamed = {}
        for name, tensor in state.items():
            name = name.removeprefix("bert.")
            for old, new in OLD_NAMES.items():
                name = name.replace(old, new)
            if not name.startswith(HEADS_OF_PRETRAINING):
                renamed[name] = tensor
        return renamed

    def features(self, batch: Batch) -> torch.Tensor:
        """Sentence features `(batch, width)`."""
        ids = self._read(batch, "input_ids")
        mask = self._read(batch, "attention_mask")
        if ids.ndim != 2 or ids.shape[1] > self.spec.input_size:
            raise ValueError(
                f"batch['input_ids'] has shape {tuple(ids.shape)}, but {self.spec.name} takes "
                f"(batch, at most {self.spec.input_size}): make ids with its `tokenizer`"
            )
        # Ready-made, because transformers would look at the mask's values to see if it can be left
        # out: a wait for the GPU, impossible on simulated tensors, another kernel for some batches.
        pairs = mask[:, None, None, :].bool().expand(-1, 1, ids.shape[1], -1)
        output = self.model(ids, attention_mask=pairs, token_type_ids=batch.get("token_type_ids"))
        if output.pooler_output is not None:
            return output.pooler_output
        real = mask.unsqueeze(-1).to(output.last_hidden_state.dtype)  # (batch, tokens, 1)
        return (output.last_hidden_state * real).sum(1) / real.sum(1).clamp(min=1)

    def blocks(self) -> list[nn.Module]:
        """The encoder's layers from input to output."""
        return list(self.model.encoder.layer)

    @property
    def tokenizer(self) -> BertText:
        """From a string to `[CLS] … [SEP]` and its mask; read when first asked for."""
        if self._tokenizer is None:
            self._tokenizer = BertText(self._read_vocabulary(), self.spec.input_size)
        return self._tokenizer

    def _read_vocabulary(self) -> Tokenizer:
        """The bundled vocabulary, the one beside the checkpoint, or the library's download."""
        if self.spec.bundled:
            return tiny_tokenizer()
        from tokenizers import Tokenizer

        beside = self.checkpoint.parent / "tokenizer.json" if self.checkpoint else None
        if beside and beside.is_file():
            return Tokenizer.from_file(str(beside))
        try:
            return Tokenizer.from_pretrained(self.spec.source)
        except Exception as error:  # the download fails in as many ways as there are networks
            raise ValueError(
                f"the vocabulary of {self.spec.name} could not be downloaded: put tokenizer.json "
                f"of huggingface.co/{self.spec.source} beside the file given as checkpoint="
            ) from error
