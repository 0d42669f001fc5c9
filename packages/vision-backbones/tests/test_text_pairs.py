"""Sentence pairs for BERT: framed and cut as the `tokenizers` library frames and cuts them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import processors

from vision_backbones.text import BertText
from vision_backbones.tiny import tiny_tokenizer

WORDS = st.lists(st.sampled_from(["digit", "zero", "letter", "small", "one"]), max_size=9)
SENTENCES = WORDS.map(" ".join)


@given(SENTENCES, SENTENCES, st.integers(4, 14))
def test_pairs_are_those_of_the_library(first, second, length):
    ours = BertText(tiny_tokenizer(), 14)(first, second, max_length=length)
    library = tiny_tokenizer()
    ends = {name: (name, library.token_to_id(name)) for name in ("[SEP]", "[CLS]")}
    library.post_processor = processors.BertProcessing(ends["[SEP]"], ends["[CLS]"])
    library.enable_truncation(length, strategy="longest_first")
    wanted = library.encode(first, second)
    assert ours["input_ids"] == wanted.ids
    assert ours["token_type_ids"] == wanted.type_ids
    assert ours["attention_mask"] == wanted.attention_mask


@given(SENTENCES, st.integers(2, 14))
def test_single_sentences_are_cut_to_the_smaller_of_both_limits(text, length):
    encode = BertText(tiny_tokenizer(), 8)
    cut = encode(text, truncation=True, max_length=length)["input_ids"]
    assert len(cut) == min(length, 8, len(BertText(tiny_tokenizer(), 99)(text)["input_ids"]))
    assert (cut[0], cut[-1]) == (encode.first, encode.last)


@pytest.mark.parametrize("pair", [None, "letter one"])
def test_the_backbone_reads_pairs_and_tells_the_sentences_apart(load_random, pair):
    bert = load_random("tiny-bert").eval()
    encoded = bert.tokenizer("digit zero", pair)
    batch = {key: torch.tensor([ids]) for key, ids in encoded.items()}
    features = bert.features(batch)
    assert features.shape[0] == 1
    without = {key: ids for key, ids in batch.items() if key != "token_type_ids"}
    assert torch.equal(features, bert.features(without)) == (pair is None)
