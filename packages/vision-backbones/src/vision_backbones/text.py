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
    """Sentences for BERT: `[CLS] ids [SEP]`, or `[CLS] ids [SEP] ids [SEP]` for a pair, not padded.

    Args:
        tokenizer: A `tokenizers` object with `[CLS]` and `[SEP]`.
        context: Number of positions of the model; longer texts lose their last words.
    """

    def __init__(self, tokenizer: Tokenizer, context: int) -> None:
        self.tokenizer, self.context = tokenizer, context
        self.first, self.last = _token_id(tokenizer, "[CLS]"), _token_id(tokenizer, "[SEP]")

    def __call__(
        self,
        text: str,
        pair: str | None = None,
        *,
        truncation: bool = True,
        max_length: int | None = None,
    ) -> Encoded:
        """Ids and mask of one sentence; of a pair also which of the two a token belongs to.

        Args:
            text: The sentence, or the first of a pair.
            pair: The second of a pair.
            truncation: Always true, for no model reads more than its positions; taken so that
                the call is that of a Hugging Face tokenizer.
            max_length: Cut to so many tokens, if that is fewer than the positions. Of a pair the
                longer sentence is cut first.

        Returns:
            `input_ids` and `attention_mask`, and `token_type_ids` for a pair.
        """
        room = min(self.context, max_length or self.context)
        words = self.tokenizer.encode(text, add_special_tokens=False).ids
        if pair is None:
            ids = [self.first, *words[: max(0, room - 2)], self.last]
            return {"input_ids": ids, "attention_mask": [1] * len(ids)}
        others = self.tokenizer.encode(pair, add_special_tokens=False).ids
        words, others = _cut_pair(words, others, max(0, room - 3))
        head, tail = [self.first, *words, self.last], [*others, self.last]
        return {
            "input_ids": head + tail,
            "attention_mask": [1] * len(head + tail),
            "token_type_ids": [0] * len(head) + [1] * len(tail),
        }


TextEncoder = Callable[..., Encoded]


def pad(rows: list[list[int]], length: int) -> torch.Tensor:
    """Rows of ids as one tensor `(rows, length)`, filled up with 0."""
    padded = torch.zeros(len(rows), length, dtype=torch.long)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    return padded


def _cut_pair(first: list[int], second: list[int], room: int) -> tuple[list[int], list[int]]:
    """Both without their last ids, the longer one first, as the `tokenizers` library cuts."""
    if len(first) + len(second) <= room:
        return first, second
    short = min(len(first), len(second), room // 2)
    if len(first) > len(second):
        return first[: room - short], second[:short]
    return first[:short], second[: room - short]


def _token_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of a special token that must exist."""
    token_id = tokenizer.token_to_id(token)
    if token_id is None:
        raise ValueError(f"the tokenizer has no {token} token: train it with that special token")
    return token_id
