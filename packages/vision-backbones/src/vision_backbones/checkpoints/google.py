"""Google's ViT files (.npz of Flax): names, and arrays turned into torch's layout.

timm reads these files too, but resizes position embeddings without being asked, skips what the
model has no place for and cannot say what is missing. Its reader is the twin in the tests.
"""

from __future__ import annotations

import torch

State = dict[str, torch.Tensor]
PREFIXES = ("opt/target/", "params/")
HEADS = ("head/", "pre_logits/")
ATTENTION = "MultiHeadDotProductAttention_1"
OUTSIDE = {
    "cls": "cls_token",
    "Transformer/posembed_input/pos_embedding": "pos_embed",
    "embedding/kernel": "patch_embed.proj.weight",
    "embedding/bias": "patch_embed.proj.bias",
    "Transformer/encoder_norm/scale": "norm.weight",
    "Transformer/encoder_norm/bias": "norm.bias",
}
INSIDE = {
    "LayerNorm_0/scale": "norm1.weight",
    "LayerNorm_0/bias": "norm1.bias",
    f"{ATTENTION}/out/kernel": "attn.proj.weight",
    f"{ATTENTION}/out/bias": "attn.proj.bias",
    "LayerNorm_2/scale": "norm2.weight",
    "LayerNorm_2/bias": "norm2.bias",
    "MlpBlock_3/Dense_0/kernel": "mlp.fc1.weight",
    "MlpBlock_3/Dense_0/bias": "mlp.fc1.bias",
    "MlpBlock_3/Dense_1/kernel": "mlp.fc2.weight",
    "MlpBlock_3/Dense_1/bias": "mlp.fc2.bias",
}
PARTS = ("query", "key", "value")
KINDS = {"kernel": "weight", "bias": "bias"}


def without_prefix(state: State) -> State:
    """Names without the prefix that training with SAM and later codebases put before them."""
    for prefix in PREFIXES:
        if f"{prefix}embedding/kernel" in state:
            return {
                name.removeprefix(prefix): tensor
                for name, tensor in state.items()
                if name.startswith(prefix)
            }
    return state


def from_google(state: State) -> State:
    r"""Rename and reshape Google's arrays; what does not belong to a ViT keeps its name.

    A dense kernel is stored `(in, out)`, a convolution `(height, width, in, out)`, query, key and
    value `(in, heads, out / heads)`, and the attention's output `(heads, in / heads, out)`.

    Args:
        state: Arrays by Flax's names.

    Returns:
        Tensors by timm's names; query, key and value are packed where all three are there.

    Examples:
        >>> prefix = "Transformer/encoderblock_0/MultiHeadDotProductAttention_1"
        >>> arrays = {f"{prefix}/{part}/kernel": torch.ones(6, 2, 3) for part in PARTS}
        >>> {name: tuple(t.shape) for name, t in from_google(arrays).items()}
        {'blocks.0.attn.qkv.weight': (18, 6)}
    """
    rest, converted = dict(state), {}
    for block in sorted({b for name in state if (b := _block(name)) is not None}):
        start = f"Transformer/encoderblock_{block}"
        for theirs, ours in INSIDE.items():
            if f"{start}/{theirs}" in rest:
                tensor = rest.pop(f"{start}/{theirs}")
                converted[f"blocks.{block}.{ours}"] = _turned(theirs, tensor)
        for theirs, ours in KINDS.items():
            names = [f"{start}/{ATTENTION}/{part}/{theirs}" for part in PARTS]
            if all(name in rest for name in names):
                parts = [_turned(name, rest.pop(name)) for name in names]
                converted[f"blocks.{block}.attn.qkv.{ours}"] = torch.cat(parts)
    for theirs, ours in OUTSIDE.items():
        if theirs in rest:
            converted[ours] = _turned(theirs, rest.pop(theirs))
    return converted | rest


def _block(name: str) -> int | None:
    """The number of the block that a name lies in."""
    start, _, rest = name.partition("encoderblock_")
    number = rest.partition("/")[0]
    return int(number) if start == "Transformer/" and number.isdigit() else None


def _turned(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """An array in torch's layout."""
    if name.endswith("out/kernel"):
        return tensor.flatten(0, -2).T.contiguous()
    if "/query/" in name or "/key/" in name or "/value/" in name:
        return tensor.flatten() if name.endswith("bias") else tensor.flatten(1).T.contiguous()
    if not name.endswith("kernel"):
        return tensor
    if tensor.ndim == 4:
        return tensor.permute(3, 2, 0, 1).contiguous()
    return tensor.T.contiguous()
