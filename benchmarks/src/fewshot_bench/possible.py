"""Whether a run can be done at all, found out before any of a sweep is started."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_bench.config import RunConfig
from fewshot_bench.preparation import find_checkpoint

if TYPE_CHECKING:
    from fewshot_data import DatasetSpec

__all__ = ["why_not"]


def why_not(config: RunConfig) -> str | None:
    """Say why a combination makes no sense; raise where something in it does not exist.

    Args:
        config: A run.

    Returns:
        The reason, or `None` where there is none.

    Raises:
        ValueError: A method, backbone, dataset or device is unknown.
        FileNotFoundError: Weights are not where they were looked for, or nobody said where data is.
    """
    from fewshot_bench.methods import find_method
    from fewshot_bench.reproducible import find_device
    from fewshot_data import load_spec
    from vision_backbones.catalog import find

    find_device(config.device)
    checkpoint = find_checkpoint(config)
    if checkpoint not in (None, "random") and not Path(str(checkpoint)).exists():
        raise FileNotFoundError(f"no checkpoint at {checkpoint!r}: give the path of a file")
    method, backbone, data = (
        find_method(config.method),
        find(config.backbone),
        load_spec(config.dataset),
    )
    _find_data(data, config)
    if method.applies(backbone):
        return f"{method.name} does not apply to {backbone.name}"
    if backbone.modality != data.modality:
        return f"{backbone.name} reads {backbone.modality}, {config.dataset} holds {data.modality}"
    return None


def _find_data(spec: "DatasetSpec", config: RunConfig) -> None:
    """Notice once that nobody said where the datasets lie, before every run of one fails."""
    from fewshot_data.layout import find_folder
    from fewshot_data.loaders import ROOT_VARIABLE

    if spec.folders and not (config.root or spec.root or os.environ.get(ROOT_VARIABLE)):
        find_folder(spec, marks=())
