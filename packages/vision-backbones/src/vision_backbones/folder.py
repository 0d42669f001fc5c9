"""A folder of transformers (config.json, weights, tokenizer) as a backbone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vision_backbones.catalog import BackboneSpec

MODEL_TYPES = {
    "bert": ("bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert"),
    "llama": ("llama", "mistral", "qwen2", "qwen3"),
}
OFFSET = ("roberta", "xlm-roberta", "camembert")  # two of their positions are never used
POOLER = ("pooler.dense.weight", "pooler.dense.bias")
HEADS = (
    "cls.", "lm_head.", "classifier.", "score.", "qa_outputs.", "vocab_", "generator_",
    "discriminator_predictions.", "embeddings.position_ids",
)  # fmt: skip
SHOWN = 3


def spec_of_folder(folder: Path) -> BackboneSpec:
    """The record of the model that a folder describes; its weights are not read.

    Args:
        folder: Holds config.json, as `save_pretrained` writes it.

    Returns:
        A record with `folder` set; parameters are counted on a model without memory.

    Raises:
        ValueError: There is no config.json, or the model is of no family that is known.
    """
    config = _config(folder)
    family = _family(folder, config.model_type)
    positions = config.max_position_embeddings - 2 * (config.model_type in OFFSET)
    # Within the window of sliding attention it is full attention, which is what is computed here.
    positions = min(positions, getattr(config, "sliding_window", None) or positions)
    with torch.device("meta"):
        model = _empty(config)
    return BackboneSpec(
        name=folder.name,
        title=f"{(config.architectures or [config.model_type])[0]} of {folder.name}",
        family=family,
        modality="text",
        source=str(folder),
        input_size=positions,
        width=config.hidden_size,
        blocks=config.num_hidden_layers,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        licence="see the folder's model card",
        folder=str(folder),
    )


def model_of_folder(folder: Path, pretrained: bool) -> nn.Module:
    """The model of a folder, with its weights or with random ones.

    Args:
        folder: Holds config.json and, for `pretrained`, the weights.
        pretrained: Whether to read the weights.

    Returns:
        The model without a head; a BERT whose weights have no pooler gets none.

    Raises:
        ValueError: Weights are absent, cut short, missing, left over or of another shape.
    """
    config = _config(folder)
    if not pretrained:
        return _empty(config)
    model, info = _read(folder)
    if set(info["missing_keys"]) & set(POOLER):
        model, info = _read(folder, add_pooling_layer=False)
        info["unexpected_keys"] = set(info["unexpected_keys"]) - set(POOLER)
    _check(folder, info, model.base_model_prefix)
    return model


def _config(folder: Path) -> Any:
    """What config.json says; code in the folder is never run."""
    from transformers import AutoConfig

    if not (folder / "config.json").is_file():
        raise ValueError(
            f"'{folder}' has no config.json: give a folder that save_pretrained wrote, or the "
            "name of a backbone with the file as checkpoint="
        )
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, KeyError, OSError, TypeError) as error:
        raise ValueError(
            f"'{folder}/config.json' describes no model that transformers knows: {error}"
        ) from error


def _family(folder: Path, model_type: str) -> str:
    """The family that a type of model belongs to."""
    for family, types in MODEL_TYPES.items():
        if model_type in types:
            return family
    known = ", ".join(name for types in MODEL_TYPES.values() for name in types)
    raise ValueError(f"'{folder}' holds a {model_type!r}, known are {known}")


def _empty(config: Any) -> nn.Module:
    """A model with random weights."""
    from transformers import AutoModel

    return AutoModel.from_config(config, dtype=torch.float32)


def _read(folder: Path, **options: Any) -> tuple[Any, dict[str, Any]]:
    """The model with the folder's weights, and what did not fit."""
    import safetensors
    from transformers import AutoModel

    try:
        with _quiet():
            return AutoModel.from_pretrained(
                folder,
                output_loading_info=True,
                local_files_only=True,
                trust_remote_code=False,
                weights_only=True,
                dtype=torch.float32,
                **options,
            )
    except (OSError, RuntimeError, ValueError, safetensors.SafetensorError) as error:
        raise ValueError(
            f"the weights in '{folder}' cannot be read: {str(error).strip().splitlines()[0]}; put "
            "the published config.json, model.safetensors and tokenizer.json there, whole"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's table of what did not fit, which `_check` judges, and its bar."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def _check(folder: Path, info: dict[str, Any], prefix: str) -> None:
    """Refuse weights that fill the model only in part."""
    left = {
        n for n in info["unexpected_keys"] if not n.removeprefix(f"{prefix}.").startswith(HEADS)
    }
    shapes = {str(entry[0]) for entry in info.get("mismatched_keys", ())}
    found = {
        "missing": set(info["missing_keys"]) - shapes, "unexpected": left,
        "of another shape": shapes,
    }  # fmt: skip
    problems = "; ".join(f"{len(n)} {kind} ({_first(n)})" for kind, n in found.items() if n)
    if problems:
        raise ValueError(
            f"checkpoint '{folder}' does not fit its own config.json: {problems}; nothing was "
            "loaded. Put the config.json there that belongs to the weights"
        )


def _first(names: Iterable[str]) -> str:
    """The first few of some names."""
    ordered = sorted(names)
    return ", ".join(ordered[:SHOWN]) + (", …" if len(ordered) > SHOWN else "")
