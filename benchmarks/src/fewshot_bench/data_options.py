"""Options of what goes in and of what may move: data, and the layers that a method changes."""

from dataclasses import dataclass
from typing import Literal

from fewshot_bench.schema import require

__all__ = ["DataOptions", "PlaceOptions"]


@dataclass(frozen=True)
class DataOptions:
    """What examples are made of, and how they are prepared."""

    transforms: str = "plain"
    """How images are prepared: `plain` as the backbone was, `published`, or a harness's name."""
    normalise: Literal["backbone", "published"] = "backbone"
    """Whose mean and deviation: the backbone's, or those of the harness's published runs."""
    subsample: Literal["all", "base", "new"] = "all"
    """All classes, or one half of them: those trained on (base), or the others."""
    template: str | None = None
    """One sentence with {} for every class name; none = the dataset's own templates."""
    released_seed: bool = False
    """Draw the shots with the run's own seed, as the releases do, not with a stream of it."""
    max_tokens: int | None = None
    """Longest text in tokens; none = what the backbone takes."""

    def __post_init__(self) -> None:
        ok = self.template is None or self.template.count("{}") == 1
        require(ok, "data.template", self.template, "a sentence with {} once")
        ok = self.max_tokens is None or self.max_tokens >= 1
        require(ok, "data.max_tokens", self.max_tokens, "at least 1")
        ok = self.normalise == "backbone" or self.transforms != "plain"
        rule = "'backbone' when data.transforms is 'plain'"
        require(ok, "data.normalise", self.normalise, rule)


@dataclass(frozen=True)
class PlaceOptions:
    """Which layers of the blocks a method changes."""

    positions: str = "all"
    """Blocks: all, top3, half-up, half-bottom, bottom, mid, up, or numbers such as 0,3,-1."""
    encoders: Literal["both", "image", "text"] = "both"
    """Towers of CLIP."""
    roles: tuple[str, ...] = ()
    """Some of q, k, v, out, fc1, fc2; none = all linear layers."""
    embeddings: bool = False
    """Give the embedding tables a support, too (`so` only)."""
    rest: bool = False
    """Train whatever is no matrix of a block or table densely: biases, norms, BERT's pooler."""
    class_token: bool = False
    """Train a vision transformer's class token densely."""
