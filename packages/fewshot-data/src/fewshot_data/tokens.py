"""Texts, pairs and scored pairs to token ids, cut to a length if that is asked for."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

__all__ = ["Tokenise"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tokenise:
    """Call a tokenizer and turn its lists into int64 tensors.

    Args:
        tokenizer: Called with one text, or with the two of a pair.
        max_length: Texts of more tokens are cut; ``None`` cuts nothing.
        keys: Which of the tokenizer's lists to keep; ``None`` keeps all.

    Examples:
        >>> tokenise = Tokenise(lambda a, b="": {"input_ids": [len(a), len(b)]})
        >>> tokenise(("a", "bcd"))["input_ids"]
        tensor([1, 3])
    """

    tokenizer: Callable[..., Mapping[str, Any]]
    max_length: int | None = None
    keys: tuple[str, ...] | None = None
    _cut: list[int] = field(default_factory=lambda: [0], repr=False, compare=False)

    @property
    def cut(self) -> int:
        """How many texts were cut so far."""
        return self._cut[0]

    def __call__(self, sample: Any) -> dict[str, Tensor]:
        """Tokenise one sample: a text, a pair of texts, or a dict with ``text`` and numbers."""
        if isinstance(sample, Mapping):
            numbers = {k: torch.tensor(float(v)) for k, v in sample.items() if k != "text"}
            return {**self(sample["text"]), **numbers}
        texts = (sample,) if isinstance(sample, str) else tuple(sample)
        tokens = self.tokenizer(*texts)
        if self.max_length is not None and len(tokens["input_ids"]) > self.max_length:
            tokens = self.tokenizer(*texts, truncation=True, max_length=self.max_length)
            self._count()
        kept = self.keys or tuple(tokens)
        missing = [key for key in kept if key not in tokens]
        if missing:
            raise ValueError(f"the tokenizer gives no '{missing[0]}': it gives {', '.join(tokens)}")
        return {key: torch.as_tensor(tokens[key], dtype=torch.int64) for key in kept}

    def _count(self) -> None:
        """Count a cut text; the log tells of the first, the tenth, the hundredth and so on."""
        self._cut[0] += 1
        if str(self.cut).rstrip("0") == "1":
            _log.warning(
                "%d text(s) are longer than max_length=%d tokens and lose their last words; "
                "raise max_length to keep them",
                *(self.cut, self.max_length),
            )
