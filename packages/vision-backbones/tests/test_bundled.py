"""What ships inside the package: weights, cards and the tokenizer."""

from __future__ import annotations

import json

import torch
from safetensors.torch import load_file

from vision_backbones import load_backbone
from vision_backbones.tiny import EOS_ID, PAD_ID, VOCABULARY, WEIGHTS_FOLDER, tiny_tokenizer

LARGEST_FILE = 3_000_000  # bytes


def test_weights_are_small_half_precision_and_have_a_card(tiny_name):
    path = WEIGHTS_FOLDER / f"{tiny_name}.safetensors"
    assert path.stat().st_size < LARGEST_FILE
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}
    assert json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))


def test_bundled_weights_are_the_default_and_are_not_the_random_ones(tiny_name, classes, tiny):
    bundled = load_backbone(tiny_name, class_names=classes)
    stored = load_file(WEIGHTS_FOLDER / f"{tiny_name}.safetensors")
    loaded, random = bundled.model.state_dict(), tiny.model.state_dict()
    assert all(torch.equal(loaded[name], tensor.float()) for name, tensor in stored.items())
    matrices = [name.removeprefix("model.") for name in bundled.matrices()]
    assert all(not torch.equal(loaded[name], random[name]) for name in matrices)


def test_tokenizer_has_the_special_tokens_where_the_models_expect_them():
    tokenizer = tiny_tokenizer()
    assert tokenizer.get_vocab_size() == VOCABULARY
    assert tokenizer.token_to_id("[PAD]") == PAD_ID
    assert tokenizer.token_to_id("[EOS]") == EOS_ID == max(tokenizer.get_vocab().values())
    assert None not in [
        tokenizer.token_to_id(f"[{name}]") for name in ("UNK", "CLS", "SEP", "MASK")
    ]
