"""Folders of transformers, with the library's own `save_pretrained`, and old BERT files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from vision_backbones.catalog import BackboneSpec
from vision_backbones.folder import MODEL_TYPES
from vision_backbones.made.model import random_model, stir
from vision_backbones.seeding import seeded
from vision_backbones.tiny import VOCABULARY, tiny_tokenizer

POSITIONS, WIDTH, DEPTH, HEADS = 64, 32, 2, 4
SIZES: dict[str, dict[str, Any]] = {
    "distilbert": {"dim": WIDTH, "n_layers": DEPTH, "n_heads": HEADS, "hidden_dim": 64},
}
TALKING = {
    "hidden_size": WIDTH, "num_hidden_layers": DEPTH, "num_attention_heads": HEADS,
    "intermediate_size": 64,
}  # fmt: skip


def folder_types() -> tuple[str, ...]:
    """Every type of model that a folder may hold.

    Examples:
        >>> "roberta" in folder_types(), "llama" in folder_types()
        (True, True)
    """
    return tuple(name for names in MODEL_TYPES.values() for name in names)


def write_folder(model_type: str, folder: Path, seed: int = 0) -> Path:
    """A small model with the head of its pretraining, saved by transformers.

    Args:
        model_type: A name in `folder_types`.
        folder: Gets config.json, model.safetensors and the bundled tokenizer.
        seed: Seed of the weights.

    Returns:
        The folder.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

    causal = model_type in MODEL_TYPES["llama"]
    settings = dict(SIZES.get(model_type, TALKING))
    if causal:
        settings |= {"num_key_value_heads": 2, "head_dim": WIDTH // HEADS}
    if model_type == "electra":
        settings["embedding_size"] = 16
    config = AutoConfig.for_model(
        model_type,
        vocab_size=VOCABULARY,
        max_position_embeddings=POSITIONS,
        pad_token_id=0,
        **settings,
    )
    with seeded(seed):
        make = AutoModelForCausalLM if causal else AutoModelForMaskedLM
        model = make.from_config(config, dtype=torch.float32)
    stir(model, seed)
    model.save_pretrained(folder)
    _add_tokenizer(folder)
    return folder


def bert(spec: BackboneSpec, folder: Path, seed: int) -> Path:
    """`model.safetensors` of bert-base-uncased: old names, heads of the pretraining."""
    old = {
        f"bert.{name}".replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor.contiguous()
        for name, tensor in random_model(spec, seed).state_dict().items()
    }
    old["cls.predictions.bias"] = torch.zeros(VOCABULARY)
    old["cls.seq_relationship.weight"] = torch.zeros(2, spec.width)
    _add_tokenizer(folder)
    save_file(old, folder / "model.safetensors", metadata={"format": "pt"})
    return folder / "model.safetensors"


def bert_folder(spec: BackboneSpec, folder: Path, seed: int) -> Path:
    """The whole folder of bert-base-uncased."""
    from transformers import BertConfig

    bert(spec, folder, seed)
    BertConfig(architectures=["BertForMaskedLM"], **dict(spec.options)).save_pretrained(folder)
    return folder


def _add_tokenizer(folder: Path) -> None:
    """The bundled vocabulary, as a tokenizer of transformers."""
    folder.mkdir(parents=True, exist_ok=True)
    from tokenizers.processors import TemplateProcessing

    tokenizer = tiny_tokenizer()
    special = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    around = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    tokenizer.post_processor = around  # pyrefly: ignore
    tokenizer.save(str(folder / "tokenizer.json"))
    tokens = {
        "unk_token": "[UNK]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
    }
    content = {"tokenizer_class": "PreTrainedTokenizerFast"} | tokens
    (folder / "tokenizer_config.json").write_text(json.dumps(content), encoding="utf-8")
