"""The three tiny architectures that ship with weights, and the tokenizer two of them share.

They are the libraries' own classes, only small, so whatever works on them works on the full-size
models built by the same libraries. They come with random weights from the global generator: seed
it (or use `torch.random.fork_rng`) around the call; `load_backbone` does so and loads the bundled
weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from open_clip.model import CLIP
    from timm.models.vision_transformer import VisionTransformer
    from tokenizers import Tokenizer
    from transformers import BertModel

IMAGE_SIZE, PATCH, WIDTH, DEPTH, HEADS = 32, 8, 96, 3, 3
IMAGE_MEAN, IMAGE_STD = 0.25, 0.4
VOCABULARY, PAD_ID, EOS_ID = 1536, 0, 1535
CLIP_CONTEXT, BERT_CONTEXT = 16, 32

WEIGHTS_FOLDER = Path(__file__).parent / "weights"
TOKENIZER_FILE = WEIGHTS_FOLDER / "tiny-tokenizer.json"


def tiny_vit() -> VisionTransformer:
    """A timm vision transformer for 32×32 images, 0.34 M parameters, average pooling, no head.

    Returns:
        A module mapping images `(batch, 3, 32, 32)` to features `(batch, 96)`.

    Examples:
        >>> import torch
        >>> tiny_vit()(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 96])
    """
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=IMAGE_SIZE,
        patch_size=PATCH,
        in_chans=3,
        num_classes=0,
        global_pool="avg",
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
    )


def tiny_clip() -> CLIP:
    """An open_clip CLIP: image tower as in `tiny_vit` with a class token, 2-layer text tower.

    The text tower is causal and reads the position of the largest id, which is `[EOS]`, so padding
    after it never matters.

    Returns:
        A module with `encode_image` (images `(batch, 3, 32, 32)`) and `encode_text` (ids
        `(batch, 16)`), both to features `(batch, 96)`.

    Examples:
        >>> import torch
        >>> tiny_clip().encode_image(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 96])
    """
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    vision = CLIPVisionCfg(
        layers=DEPTH,
        width=WIDTH,
        head_width=WIDTH // HEADS,
        patch_size=PATCH,
        image_size=IMAGE_SIZE,
    )
    text = CLIPTextCfg(
        context_length=CLIP_CONTEXT,
        vocab_size=VOCABULARY,
        width=WIDTH,
        heads=HEADS,
        layers=2,
        pool_type="argmax",
    )
    return CLIP(embed_dim=WIDTH, vision_cfg=vision, text_cfg=text)


def tiny_bert() -> BertModel:
    """A transformers BERT encoder, 3 layers of width 96, 32 positions, no pooler, no dropout.

    Returns:
        A module mapping `input_ids` and `attention_mask` `(batch, tokens)` to hidden states
        `(batch, tokens, 96)` in `last_hidden_state`.

    Examples:
        >>> import torch
        >>> ids = torch.ones(2, 5, dtype=torch.long)
        >>> tiny_bert()(ids).last_hidden_state.shape
        torch.Size([2, 5, 96])
    """
    from transformers import BertConfig, BertModel

    # Dropout would draw from the global generator in every training step.
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH,
        max_position_embeddings=BERT_CONTEXT,
        pad_token_id=PAD_ID,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return BertModel(config, add_pooling_layer=False)


def tiny_tokenizer() -> Tokenizer:
    """The 1,536-token WordPiece of `tiny_clip` and `tiny_bert`.

    Its own post-processing is not used: `vision_backbones.text` adds the special tokens that each
    of the two models reads.

    Returns:
        The `tokenizers` object; `[PAD]` is 0 and `[EOS]` is 1535, the largest id.

    Raises:
        FileNotFoundError: The file is absent from the installed package.
    """
    from tokenizers import Tokenizer

    if not TOKENIZER_FILE.is_file():
        raise FileNotFoundError(
            f"the bundled tokenizer {TOKENIZER_FILE} is missing: reinstall vision-backbones, "
            "or make it with `nox -s pretrain_tiny`"
        )
    return Tokenizer.from_file(str(TOKENIZER_FILE))
