"""From a configuration to data and a backbone that fit each other."""

import functools
from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_bench.config import RunConfig
from fewshot_bench.methods import find_method
from fewshot_bench.preparation import find_checkpoint, transform_for
from fewshot_bench.seeds import derive

if TYPE_CHECKING:
    from fewshot_data import FewShotData
    from vision_backbones import Backbone, BackboneSpec

__all__ = ["open_task"]

DRAWING = (
    "dataset", "shots", "seed", "protocol", "replace", "text_column", "label_column", "test_limit",
    "root", "data",
)  # fmt: skip
"""The fields that decide which examples a run sees."""

KEPT = 2
"""Prepared data sets kept in memory: runs that differ only in their method decode nothing twice."""

_kept: dict[Hashable, "FewShotData"] = {}


def open_task(config: RunConfig, *, train: bool = True) -> tuple["FewShotData", "Backbone"]:
    """Draw the shots, load the backbone and prepare the one for the other.

    Args:
        config: The run.
        train: Whether shots are needed; to test on other data, their number does not matter.

    Returns:
        Data that yields batches which the backbone reads, and the backbone on `config.device`, its
        structure as the method needs it.

    Raises:
        ValueError: Something is unknown, or method, backbone and dataset do not fit together; the
            message says which and why.
        FileNotFoundError: Data or checkpoint are not where they were looked for.
    """
    from vision_backbones import load_backbone

    method, spec = find_method(config.method), _spec(config.backbone)
    if reason := method.applies(spec):
        raise ValueError(reason)
    drawn = (*_drawing(config), config.shots if train else 0)
    raw = _draw(*drawn)
    if raw.modality != spec.modality:
        raise ValueError(
            f"dataset {config.dataset!r} holds {raw.modality} data, but backbone {spec.name!r} "
            f"reads {spec.modality}: choose another dataset, or one of {_for(raw.modality)}"
        )
    backbone = load_backbone(
        config.backbone,
        class_names=raw.prompt_names,
        templates=(config.data.template,) if config.data.template else raw.templates,
        checkpoint=find_checkpoint(config),
        seed=derive(config.seed).init,
    )
    method.prepare(backbone)
    data = _ready(raw, backbone, config, (*drawn, config.backbone, config.checkpoint))
    return data, backbone.to(config.device)


def _drawing(config: RunConfig) -> tuple[RunConfig, tuple[object, ...]]:
    """Give what a draw depends on: some fields, the place, when one's own files last changed."""
    chosen = {name: getattr(config, name) for name in DRAWING}
    path = Path(config.dataset)
    own = [path, *(p for p in path.iterdir() if p.is_dir())] if path.is_dir() else [path]
    stamps = tuple(p.stat().st_mtime_ns for p in own if p.exists())
    return RunConfig(**chosen), stamps


def _ready(
    raw: "FewShotData", backbone: "Backbone", config: RunConfig, key: Hashable
) -> "FewShotData":
    """Prepare data for a backbone, or give what was prepared for the run before."""
    if key not in _kept:
        while len(_kept) >= KEPT:
            del _kept[next(iter(_kept))]
        _kept[key] = raw.with_transform(transform_for(backbone, raw, config))
    return _kept[key]


@functools.lru_cache(maxsize=KEPT)
def _draw(config: RunConfig, stamps: tuple[object, ...], shots: int) -> "FewShotData":
    """Draw the shots and the test set, untransformed."""
    from fewshot_data import few_shot
    from fewshot_data.batches import Split

    data = few_shot(
        config.dataset,
        shots,
        seed=_split_seed(config),
        protocol=config.protocol,
        replace=config.replace,
        text_column=config.text_column,
        label_column=config.label_column,
        root=config.root,
        subsample=config.data.subsample,
    )
    test, limit = data.test, config.test_limit
    if limit is None or limit >= len(test):
        return data
    chosen = [test.indices[i * len(test) // limit] for i in range(limit)]
    return replace(data, test=Split(test.samples, test.labels, chosen, test.modality))


def _split_seed(config: RunConfig) -> int:
    """Give the seed of the draw: published protocols name their draws by the seed as typed."""
    as_typed = config.data.released_seed or config.protocol != "nested"
    return config.seed if as_typed else derive(config.seed).split


def _spec(name: str) -> "BackboneSpec":
    """Look a backbone up in the catalog."""
    from vision_backbones.catalog import find

    return find(name)


def _for(modality: str) -> str:
    """List the backbones that read a modality."""
    from vision_backbones import list_backbones

    return ", ".join(spec.name for spec in list_backbones() if spec.modality == modality)
