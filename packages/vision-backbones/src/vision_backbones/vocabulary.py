"""The vocabulary of a text model: bundled, beside its weights, or the library's download."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_backbones.catalog import BackboneSpec
from vision_backbones.text import BertText, Encoded, TextEncoder
from vision_backbones.tiny import tiny_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class FolderText:
    """Texts for the model of a folder, as its own tokenizer writes them.

    Args:
        folder: Holds the tokenizer's files.
        context: Number of positions of the model; longer texts lose their last words.

    Raises:
        ValueError: The folder has no tokenizer.
    """

    def __init__(self, folder: Path, context: int) -> None:
        from transformers import AutoTokenizer

        self.context = context
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        except (OSError, ValueError) as error:
            raise ValueError(
                f"'{folder}' has no tokenizer: put the tokenizer.json of the model there"
            ) from error

    def __call__(self, text: str) -> Encoded:
        """Ids and mask of one text, with the special tokens of the model."""
        encoded = self.tokenizer(text, truncation=True, max_length=self.context)
        return {name: encoded[name] for name in ("input_ids", "attention_mask")}


def text_encoder(spec: BackboneSpec, checkpoint: Path | None) -> TextEncoder:
    """From a string to the ids and the mask that a text backbone reads.

    Args:
        spec: The backbone.
        checkpoint: Where its weights came from; a tokenizer beside them is used.

    Returns:
        A function from a string to `input_ids` and `attention_mask`, not padded.

    Raises:
        ValueError: The vocabulary is not there and cannot be downloaded.
    """
    if spec.folder:
        return FolderText(Path(spec.folder), spec.input_size)
    return BertText(_bert_vocabulary(spec, checkpoint), spec.input_size)


def _bert_vocabulary(spec: BackboneSpec, checkpoint: Path | None) -> Tokenizer:
    """The bundled vocabulary, the one beside the checkpoint, or the library's download."""
    if spec.bundled:
        return tiny_tokenizer()
    from tokenizers import Tokenizer

    beside = checkpoint.parent / "tokenizer.json" if checkpoint else None
    if beside and beside.is_file():
        return Tokenizer.from_file(str(beside))
    try:
        return Tokenizer.from_pretrained(spec.source)
    except Exception as error:  # the download fails in as many ways as there are networks
        raise ValueError(
            f"the vocabulary of {spec.name} could not be downloaded: put tokenizer.json "
            f"of huggingface.co/{spec.source} beside the file given as checkpoint="
        ) from error
