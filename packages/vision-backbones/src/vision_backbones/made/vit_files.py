"""Vision transformers as Google, MAE and MoCo v3 publish them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from vision_backbones.catalog import BackboneSpec
from vision_backbones.checkpoints.google import ATTENTION, INSIDE, OUTSIDE, PARTS
from vision_backbones.made.model import CLASSES, classifier, random_model

State = dict[str, torch.Tensor]


def google(spec: BackboneSpec, folder: Path, seed: int) -> Path:
    """`ViT-B_16.npz`: Flax's names, with the classifier of ImageNet-21k."""
    import numpy as np

    model = random_model(spec, seed)
    state = model.state_dict()
    arrays = {theirs: _flax(theirs, state[ours]) for theirs, ours in OUTSIDE.items()}
    for block in range(len(model.blocks)):
        start, own = f"Transformer/encoderblock_{block}", f"blocks.{block}"
        for theirs, ours in INSIDE.items():
            arrays[f"{start}/{theirs}"] = _flax(theirs, state[f"{own}.{ours}"])
        heads = model.blocks[block].attn.num_heads
        out = arrays[f"{start}/{ATTENTION}/out/kernel"]
        arrays[f"{start}/{ATTENTION}/out/kernel"] = out.unflatten(0, (heads, -1))
        for kind, ours in (("kernel", "weight"), ("bias", "bias")):
            parts = state[f"{own}.attn.qkv.{ours}"].chunk(3)
            for part, tensor in zip(PARTS, parts, strict=True):
                name = f"{start}/{ATTENTION}/{part}/{kind}"
                arrays[name] = tensor.t().unflatten(-1, (heads, -1))
    arrays["head/kernel"] = torch.zeros(spec.width, CLASSES)
    arrays["head/bias"] = torch.zeros(CLASSES)
    arrays["pre_logits/kernel"] = torch.zeros(spec.width, spec.width)
    arrays["pre_logits/bias"] = torch.zeros(spec.width)
    path = folder / "ViT.npz"
    contents: Any = {name: array.contiguous().numpy() for name, array in arrays.items()}
    np.savez(path, **contents)
    return path


def mae(spec: BackboneSpec, folder: Path, seed: int) -> Path:
    """`mae_pretrain_vit_base.pth`: the encoder under "model"."""
    path = folder / "mae_pretrain_vit.pth"
    torch.save({"model": random_model(spec, seed).state_dict()}, path)
    return path


def mae_full(spec: BackboneSpec, folder: Path, seed: int) -> Path:
    """`mae_pretrain_vit_base_full.pth`: encoder and decoder under "model"."""
    state = random_model(spec, seed).state_dict()
    state["mask_token"] = torch.zeros(1, 1, 16)
    state["decoder_pos_embed"] = torch.zeros(1, 5, 16)
    for name in ("decoder_embed", "decoder_blocks.0.attn.qkv", "decoder_norm", "decoder_pred"):
        state |= {f"{name}.weight": torch.zeros(16, 16), f"{name}.bias": torch.zeros(16)}
    path = folder / "mae_pretrain_vit_full.pth"
    torch.save({"model": state}, path)
    return path


def moco(spec: BackboneSpec, folder: Path, seed: int) -> Path:
    """`vit-b-300ep.pth.tar`: two encoders with projection heads, a predictor, the optimizer."""
    query, momentum = (random_model(spec, s).state_dict() for s in (seed, seed + 1))
    state = {f"module.base_encoder.{name}": t for name, t in (query | _mlp("head", 3)).items()}
    state |= {f"module.momentum_encoder.{n}": t for n, t in (momentum | _mlp("head", 3)).items()}
    state |= {f"module.{name}": t for name, t in _mlp("predictor", 2).items()}
    training = {"optimizer": {"state": {}, "param_groups": []}, "scaler": {"scale": 65536.0}}
    path = folder / "vit-300ep.pth.tar"
    torch.save({"epoch": 300, "arch": "vit_base", "state_dict": state} | training, path)
    return path


def moco_linear(spec: BackboneSpec, folder: Path, seed: int) -> Path:
    """`linear-vit-b-300ep.pth.tar`: the linear probe's whole model under "module."."""
    state = random_model(spec, seed).state_dict() | classifier(spec.width)
    path = folder / "linear-vit-300ep.pth.tar"
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    extra = {"best_acc1": torch.tensor(76.7), "optimizer": {"state": {}, "param_groups": []}}
    torch.save({"epoch": 90, "arch": "vit_base", "state_dict": wrapped} | extra, path)
    return path


def _flax(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """A tensor in the layout of Flax."""
    if not name.endswith("kernel"):
        return tensor
    return tensor.permute(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T


def _mlp(prefix: str, layers: int) -> State:
    """A projection head: linear layers without bias, each with a batch norm."""
    state: State = {}
    for layer in range(layers):
        linear, norm = f"{prefix}.{3 * layer}", f"{prefix}.{3 * layer + 1}"
        state[f"{linear}.weight"] = torch.zeros(8, 8)
        state[f"{norm}.running_mean"] = torch.zeros(8)
        state[f"{norm}.running_var"] = torch.ones(8)
        state[f"{norm}.num_batches_tracked"] = torch.tensor(1)
    return state
