"""The WordPiece vocabulary that tiny-clip and tiny-bert share.

Trained once on the names that pretraining may see. Ties between equally frequent pieces are
broken by the library as it likes, so a new file has other ids and needs new weights.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_bench.atomic import write_text
from fewshot_data.unicode_names import pretraining_names
from vision_backbones.tiny import EOS_ID, VOCABULARY

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["train_tokenizer"]

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def train_tokenizer() -> "Tokenizer":
    """Train the vocabulary.

    Returns:
        1,536 tokens; `[PAD]` is 0 and `[EOS]` is 1535.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY - 1, special_tokens=SPECIAL, show_progress=False
    )
    tokenizer.train_from_iterator([c.name for c in pretraining_names()], trainer)
    tokenizer.add_special_tokens(["[EOS]"])
    if tokenizer.token_to_id("[EOS]") != EOS_ID:
        raise ValueError(
            f"the vocabulary has {tokenizer.get_vocab_size()} tokens, not {VOCABULARY}"
        )
    return tokenizer


def write_tokenizer(path: Path) -> None:
    """Train the vocabulary and write it.

    Args:
        path: The JSON file.
    """
    write_text(path, train_tokenizer().to_str(pretty=True) + "\n")
