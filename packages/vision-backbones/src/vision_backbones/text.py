"""From a string to token ids: the special tokens, cutting and padding that each model reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Encoded = dict[str, list[int]]


class ClipText:
    """Prompts for tiny-clip: `ids [EOS]`, padded with 0 to the context length.

    Args:
        tokenizer: A `tokenizers` object with an `[EOS]` token of the largest id.
        context: Number of positions of the text tower; longer prompts lose their last words.
    """

    def __init__(self, tokenizer: Tokenizer, context: int) -> None:
        self.tokenizer, self.context = tokenizer, context
        self.end = _token_id(tokenizer, "[EOS]")

    def ids(self, text: str) -> list[int]:
        """Token ids of one prompt, ending with `[EOS]`, not padded."""
        words = self.tokenizer.encode(text, add_special_tokens=False).ids
        return [*words[: self.context - 1], self.end]

    def __call__(self, texts: list[str]) -> torch.Tensor:
        """Ids of several prompts, `(prompts, context)`, padded with 0."""
        return pad([self.ids(text) for text in texts], self.context)


class BertText:
    """Sentences for BERT: `[CLS] ids [SEP]`, not padded, with a mask of ones.

    Args:
        tokenizer: A `tokenizers` object with `[CLS]` and `[SEP]`.
        context: Number of positions of the model; longer texts lose their last words.
    """

    def __init__(self, tokenizer: Tokenizer, context: int) -> None:
        self.tokenizer, self.context = tokenizer, context
        self.first, self.last = _token_id(tokenizer, "[CLS]"), _token_id(tokenizer, "[SEP]")

    def __call__(self, text: str) -> Encoded:
        """Ids and mask of one sentence."""
        words = self.tokenizer.encode(text, add_special_tokens=False).ids
        ids = [self.first, *words[: self.context - 2], self.last]
        return {"input_ids": ids, "attention_mask": [1] * len(ids)}


TextEncoder = Callable[[str], Encoded]


def pad(rows: list[list[int]], length: int) -> torch.Tensor:
    """Rows of ids as one tensor `(rows, length)`, filled up with 0."""
    padded = torch.zeros(len(rows), length, dtype=torch.long)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    return padded


def _token_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of a special token that must exist."""
    token_id = tokenizer.token_to_id(token)
    if token_id is None:
        raise ValueError(f"the tokenizer has no {token} token: train it with that special token")
    return token_id
