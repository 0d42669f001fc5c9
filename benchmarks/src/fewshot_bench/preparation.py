"""What stands between the files of a run and its backbone: transforms, and where weights lie."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewshot_bench.config import RunConfig
from fewshot_bench.schema import closest

if TYPE_CHECKING:
    from fewshot_data import FewShotData
    from vision_backbones import Backbone

__all__ = ["find_checkpoint", "transform_for"]

WEIGHTS_VARIABLE = "FEWSHOT_WEIGHTS"
READ = ("input_ids", "attention_mask")
"""What backbones read of a tokenizer; like SO's release, no token types."""


def transform_for(backbone: "Backbone", data: "FewShotData", config: RunConfig) -> object:
    """Give the transform from a dataset's samples to what a backbone reads.

    Args:
        backbone: Gives image size and normalisation, or the tokenizer.
        data: Says whose transforms its published numbers used.
        config: Chooses between them.

    Returns:
        What `FewShotData.with_transform` takes.

    Raises:
        ValueError: There is no such harness, or the dataset names none.
    """
    from fewshot_data.harness import harness_transforms
    from fewshot_data.transforms import image_transforms, text_transforms

    options = config.data
    if backbone.tokenizer is not None:
        return text_transforms(
            _pair_reader(backbone), max_length=_longest(backbone, options.max_tokens), keys=READ
        )
    how = dict(backbone.preprocess or {})
    if options.transforms == "plain":
        return image_transforms(**how)
    name = data.spec.transforms if options.transforms == "published" else options.transforms
    if not name:
        raise ValueError(
            f"data.transforms is 'published', but dataset {data.spec.name!r} names none: "
            "use 'plain' or the name of a harness, such as 'clip'"
        )
    return harness_transforms(
        name,
        how["size"],
        how["mean"],
        how["std"],
        channels=how["channels"],
        normalise="published" if options.normalise == "published" else None,
    )


def _pair_reader(backbone: "Backbone") -> Callable[..., Any]:
    """Give what tokenises a text or a pair: of a folder's tokenizer, transformers' own."""
    encode: Any = backbone.tokenizer
    own = getattr(encode, "tokenizer", None)
    return own if callable(own) else encode


def _longest(backbone: "Backbone", asked: int | None) -> int:
    """Give the most tokens of a text; the backbone's positions are the end of it."""
    return min(asked or backbone.spec.input_size, backbone.spec.input_size)


def find_checkpoint(config: RunConfig) -> str | None:
    """Say where the weights of a run lie.

    Args:
        config: Its `checkpoint` may be the bare name of a published file or folder, which is
            looked for in `weights`, else in the folder that FEWSHOT_WEIGHTS names.

    Returns:
        What `load_backbone` takes.

    Raises:
        FileNotFoundError: A bare name is nowhere; the message says what to get and where to put it.

    Examples:
        >>> find_checkpoint(RunConfig(checkpoint="random"))
        'random'
    """
    name = config.checkpoint
    if name in (None, "random") or Path(name).exists() or len(Path(name).parts) > 1:
        return name
    folder = config.weights or os.environ.get(WEIGHTS_VARIABLE)
    if folder and (Path(folder) / name).exists():
        return str(Path(folder) / name)
    where = f"{folder!r} has none" if folder else f"neither --weights nor {WEIGHTS_VARIABLE} is set"
    raise FileNotFoundError(
        f"unknown checkpoint {name!r}: {closest(name, ['pretrained', 'random'])}; or the path of a "
        f"file, or the name of one in the folder of --weights ({where}): {_source(config, name)}, "
        "and put it there under that name"
    )


def _source(config: RunConfig, name: str) -> str:
    """Say where published weights come from."""
    from vision_backbones.catalog import find

    files = find(config.backbone).files
    fitting = [address for address in files if address.endswith(name)] or list(files)
    return f"get {' or '.join(fitting)}" if fitting else f"get {name} from its publisher"
