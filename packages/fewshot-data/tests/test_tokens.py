"""Tokenising: one text, pairs, scored pairs; cutting is counted; real tokenizers fit."""

import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from fewshot_data.batches import Split
from fewshot_data.tokens import Tokenise
from fewshot_data.transforms import text_transforms

WORDS = st.lists(st.sampled_from("abc"), max_size=12).map(" ".join)


@pytest.fixture(scope="module")
def library_tokenizer():
    """A Hugging Face tokenizer that frames texts and pairs as BERT's does."""
    vocabulary = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3, "a": 4, "b": 5, "c": 6}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", model_input_names=names
    )


@given(WORDS, WORDS, st.integers(4, 12))
def test_pairs_are_tokenised_as_the_library_tokenises_pairs(library_tokenizer, one, two, length):
    tokenise = Tokenise(library_tokenizer, max_length=length)
    wanted = library_tokenizer(one, two, truncation=True, max_length=length)
    assert {key: rows.tolist() for key, rows in tokenise((one, two)).items()} == dict(wanted)
    assert tokenise.cut == (len(library_tokenizer(one, two)["input_ids"]) > length)


def test_samples_may_be_texts_pairs_and_scored_pairs(library_tokenizer):
    test = text_transforms(library_tokenizer, keys=("input_ids", "attention_mask")).test
    assert test("a b")["input_ids"].tolist() == [1, 4, 5, 2]
    assert test(("a", "b c"))["input_ids"].tolist() == [1, 4, 2, 5, 6, 2]
    scored = test({"text": ("a", "b"), "score": 3.5})
    assert set(scored) == {"input_ids", "attention_mask", "score"}
    assert torch.equal(scored["score"], torch.tensor(3.5))


def test_token_type_ids_are_padded_and_cut_like_the_ids(library_tokenizer):
    samples = [("a", "b c a b"), ("a b", "c")]
    split = Split(samples, [0, 1], [0, 1], "text", text_transforms(library_tokenizer).test)
    (batch,) = split.in_order(2)
    assert batch["input_ids"].shape == batch["token_type_ids"].shape == (2, 8)
    assert batch["token_type_ids"].tolist()[1] == [0, 0, 0, 0, 1, 1, 0, 0]


def test_cut_texts_are_counted_and_told_of_at_powers_of_ten(library_tokenizer, caplog):
    tokenise = Tokenise(library_tokenizer, max_length=4)
    with caplog.at_level(logging.WARNING, logger="fewshot_data"):
        for _ in range(25):
            assert tokenise("a b c a")["input_ids"].tolist() == [1, 4, 5, 2]
        assert tokenise("a b")["input_ids"].tolist() == [1, 4, 5, 2]
    assert tokenise.cut == 25
    told = [record.getMessage().split()[0] for record in caplog.records]
    assert told == ["1", "10"]


def test_texts_are_cut_once_each_however_often_they_are_read(library_tokenizer):
    tokenise = text_transforms(library_tokenizer, max_length=4).test
    split = Split(["a b c", "a"], [0, 1], [0, 1], "text", tokenise)
    for _ in range(3):
        assert next(split.in_order(2))["input_ids"].shape == (2, 4)
    assert tokenise.cut == 1


def test_what_cannot_be_done_is_refused(library_tokenizer):
    with pytest.raises(ValueError, match="max_length is 0: give at least 1"):
        text_transforms(library_tokenizer, max_length=0)
    with pytest.raises(ValueError, match="gives no 'pixels': it gives input_ids, token_type_ids"):
        text_transforms(library_tokenizer, keys=("pixels",)).test("a")
