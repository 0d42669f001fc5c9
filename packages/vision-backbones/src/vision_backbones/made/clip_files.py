"""CLIP as OpenAI and open_clip publish it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from vision_backbones.catalog import BackboneSpec
from vision_backbones.made.model import random_model


def openai(spec: BackboneSpec, folder: Path, seed: int) -> Path:
    """`ViT-B-32.pt`: a TorchScript archive, matrices in half precision."""
    model = _openai_model(spec, seed)
    for name, value in _settings(spec).items():
        model.__dict__.pop(name, None)  # open_clip keeps two of them as plain numbers
        model.register_buffer(name, value)
    size = spec.input_size
    images, text = torch.zeros(1, 3, size, size), torch.ones(1, 77, dtype=torch.int)
    inputs: dict[str, Any] = {"encode_image": images, "encode_text": text}
    path = folder / "ViT.pt"
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing tells of shapes that become constants
        script = torch.jit.trace_module(model.float(), inputs, check_trace=False)
        _halve(script)
        torch.jit.save(script, str(path))
    return path


def openai_state(spec: BackboneSpec, folder: Path, seed: int) -> Path:
    """The state dict of OpenAI's archive, settings included."""
    path = folder / "ViT-state.pt"
    model = _openai_model(spec, seed)
    _halve(model)
    torch.save(dict(model.state_dict()) | _settings(spec), path)
    return path


def open_clip(spec: BackboneSpec, folder: Path, seed: int) -> Path:
    """A repository of open_clip: `open_clip_model.safetensors` and `open_clip_config.json`."""
    state = random_model(spec, seed).state_dict()
    prepared = {"mean": list(spec.mean), "std": list(spec.std)}
    config = {"model_cfg": {"quick_gelu": False}, "preprocess_cfg": prepared}
    (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    path = folder / "open_clip_model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path


def open_clip_training(spec: BackboneSpec, folder: Path, seed: int) -> Path:
    """`epoch_32.pt`: what open_clip's training writes."""
    state = random_model(spec, seed).state_dict()
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    training = {"epoch": 32, "name": "run", "optimizer": {"state": {}, "param_groups": []}}
    path = folder / "epoch_32.pt"
    torch.save(training | {"state_dict": wrapped}, path)
    return path


def _openai_model(spec: BackboneSpec, seed: int) -> Any:
    """A CLIP whose weights are exact in half precision."""
    model = random_model(spec, seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
    return model


def _halve(model: Any) -> None:
    """Store matrices and convolutions in half precision, as OpenAI does; norms stay as they are."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data = parameter.data.half()


def _settings(spec: BackboneSpec) -> dict[str, torch.Tensor]:
    """The three numbers that OpenAI stores beside the weights."""
    return {
        "input_resolution": torch.tensor(spec.input_size),
        "context_length": torch.tensor(77),
        "vocab_size": torch.tensor(49408),
    }
