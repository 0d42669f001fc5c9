"""What a run is: every choice, with its default, in one place.

The string under each field is what `fewshot run --help` prints. A configuration is frozen, turns
into a plain table and back without loss, and has a name that is safe as a file name.
"""

import hashlib
import json
import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from fewshot_bench.schema import plain, read

__all__ = ["PEERS", "LoraOptions", "RunConfig", "SOConfig", "SnellOptions", "resolve", "run_name"]

MAX_RATE = 1e30  # beyond it torch's own arithmetic on the rate overflows

DEFAULT_RATES: dict[str, tuple[float | None, float | None]] = {
    # method: (learning rate of the backbone's parameters, of the head's). The best mean over the
    # three tiny backbones of `fewshot sweep --preset tune-rates`, whose seeds no table uses.
    "zero_shot": (None, None),
    "linear_probe": (None, 1e-2),
    "full": (1e-3, 1e-2),
    "bias": (3e-2, 1e-2),
    "lora": (1e-2, 1e-2),
    "so": (3e-2, 1e-2),
    "klora": (1e-2, 1e-2),
    "snell": (1e-1, 1e-2),
    # Of `fewshot sweep --preset peers-rates`.
    "dora": (1e-2, 1e-2),
    "shira": (3e-2, 1e-2),
    "supertuning": (3e-2, 1e-2),
    "adamw_8bit": (1e-3, 1e-2),
    "galore": (1e-2, 1e-2),
}
PEERS = ("dora", "shira", "supertuning", "adamw_8bit", "galore")
"""Methods of others, which run where they are asked for and not by default."""


@dataclass(frozen=True)
class SOConfig:
    """Sparse optimization: which share of each matrix may move, and for how long."""

    density_ratio: float = 0.03
    """Share of each matrix's entries in the support, in (0, 1]."""
    T: int = 5
    """Steps for which a random support is kept before the next one is drawn."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of the two moments."""
    prune: Literal["after_update", "before_update"] = "after_update"
    """Move the whole union and then forget, as released, or forget first, as in the paper."""
    bias_correction: Literal["global", "per_entry"] = "global"
    """Count a matrix's steps, as released, or those since each entry was last picked up."""
    memory: Literal["free", "low", "minimal", "dense"] = "free"
    """What backward keeps: as little as a frozen network, less for some time, or all (dense)."""

    def __post_init__(self) -> None:
        _require(0 < self.density_ratio <= 1, "so.density_ratio", self.density_ratio, "in (0, 1]")
        _require(self.T >= 1, "so.T", self.T, "at least 1")
        _require(all(0 <= b < 1 for b in self.betas), "so.betas", self.betas, "in [0, 1)")


@dataclass(frozen=True)
class LoraOptions:
    """LoRA as PEFT implements it."""

    r: int = 4
    """Rank of the update of each linear layer."""
    alpha: int = 8
    """The update is scaled by alpha / r."""
    dropout: float = 0.0
    """Dropout on the input of the adapter branch."""

    def __post_init__(self) -> None:
        _require(self.r >= 1, "lora.r", self.r, "at least 1")
        _require(self.alpha > 0, "lora.alpha", self.alpha, "positive")
        _require(0 <= self.dropout < 1, "lora.dropout", self.dropout, "in [0, 1)")


@dataclass(frozen=True)
class SnellOptions:
    """Kernelized low-rank updates: KLoRA, and SNELL with its sparsity."""

    r: int = 8
    """Width of the two factors of each linear layer."""
    sparsity: float = 0.9
    """Share of each update that is set to zero, in [0, 1); `klora` ignores it (0)."""
    kernel: Literal["piecewise_linear", "linear", "sigmoid", "rbf", "mixed"] = "piecewise_linear"
    """What turns two factors into an update; `linear` is LoRA's product, `mixed` is SNELLA's."""
    sparsifier: Literal["released", "paper", "hard"] = "released"
    """What happens to the entries that survive; `klora` has none."""
    init: Literal["released", "zero_update"] = "released"
    """Random factors, as released, or a start at a zero update (`klora` only)."""
    mask: Literal["dynamic", "fixed"] = "dynamic"
    """Survivors are the largest entries at any time, or chosen once before training."""
    budget: Literal["uniform", "allocated"] = "uniform"
    """Every layer has the same sparsity, or layers compete for entries as in SNELLA."""

    def __post_init__(self) -> None:
        _require(self.r >= 1, "snell.r", self.r, "at least 1")
        _require(0 <= self.sparsity < 1, "snell.sparsity", self.sparsity, "in [0, 1)")
        fixed = self.mask == "fixed"
        fits = not fixed or self.sparsifier == "hard"
        _require(fits, "snell.sparsifier", self.sparsifier, "'hard' when snell.mask is 'fixed'")
        fits = not fixed or self.budget == "uniform"
        _require(fits, "snell.budget", self.budget, "'uniform' when snell.mask is 'fixed'")


@dataclass(frozen=True)
class RunConfig:
    """One run: a method adapts a backbone to a few examples per class of a dataset."""

    method: str = "so"
    """How to adapt: zero_shot, linear_probe, full, bias, lora, so, klora or snell."""
    backbone: str = "tiny-vit"
    """The pretrained model; `fewshot list` shows all of them."""
    dataset: str = "digits"
    """A registered name, a folder of class folders, or a CSV, JSONL, JSON or Parquet file."""
    shots: int = 4
    """Training examples per class."""
    seed: int = 0
    """Selects the shots, the test split, the initial weights, the supports and the batch order."""
    protocol: str = "nested"
    """How shots are drawn; `nested`: the 1-shot set lies inside the 4-shot set of the same seed."""
    replace: bool = False
    """Draw with repetition when a class has fewer examples than shots."""
    checkpoint: str | None = None
    """none = the pretrained weights, `random` = the untrained control, or a .safetensors file."""
    text_column: str | None = None
    """Column of the text, for one's own text files."""
    label_column: str | None = None
    """Column of the label, for one's own text files."""
    test_limit: int | None = None
    """Evaluate on N test examples only, evenly spaced over the test set."""
    steps: int = 80
    """Optimizer steps."""
    batch_size: int = 32
    """Training examples per step."""
    lr: float | None = None
    """Peak learning rate of the backbone's parameters; none = the method's own default."""
    head_lr: float | None = None
    """Peak learning rate of the classification head; none = the method's own default."""
    weight_decay: float = 0.0
    """Weight decay of every trained parameter, in the way of the method's optimizer."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate over time: cosine falls to zero at the last step."""
    device: str = "cpu"
    """Where to compute: cpu, cuda, cuda:1, ..."""
    threads: int = 1
    """CPU threads of this run; part of what makes a repeat bit-identical."""
    so: SOConfig = field(default_factory=SOConfig)
    """Options of `so`."""
    lora: LoraOptions = field(default_factory=LoraOptions)
    """Options of `lora`."""
    snell: SnellOptions = field(default_factory=SnellOptions)
    """Options of `klora` and `snell`."""

    def __post_init__(self) -> None:
        for name in ("shots", "batch_size", "threads"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("steps", "seed"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        for name in ("lr", "head_lr"):
            value = getattr(self, name)
            ok = value is None or 0 < value <= MAX_RATE
            _require(ok, name, value, f"a positive number, at most {MAX_RATE:g}")
        ok = self.weight_decay >= 0 and math.isfinite(self.weight_decay)
        _require(ok, "weight_decay", self.weight_decay, "0 or more")
        ok = self.test_limit is None or self.test_limit >= 1
        _require(ok, "test_limit", self.test_limit, "at least 1")

    def to_dict(self) -> dict[str, Any]:
        """Give the configuration as a plain table, complete with defaults.

        Returns:
            Nested dictionaries of strings, numbers, booleans, lists and `None`.

        Examples:
            >>> RunConfig.from_dict(RunConfig(method="lora").to_dict()) == RunConfig(method="lora")
            True
        """
        return plain(self)

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> "RunConfig":
        """Read a configuration from a plain table; what is left out keeps its default.

        Args:
            table: As from `to_dict`, JSON or TOML.

        Returns:
            The configuration.

        Raises:
            ValueError: A field is unknown (the closest match is offered), mistyped or out of range.
        """
        return read(cls, table, "config")


def resolve(config: RunConfig) -> RunConfig:
    """Fill in the method's own learning rates, so that a record says what was used.

    Args:
        config: A run, perhaps without learning rates.

    Returns:
        The run with the numbers; itself when there is nothing to fill in.

    Examples:
        >>> resolve(RunConfig(method="full", lr=None)).lr == DEFAULT_RATES["full"][0]
        True
    """
    lr, head_lr = DEFAULT_RATES.get(config.method, (None, None))
    return replace(
        config,
        lr=lr if config.lr is None else config.lr,
        head_lr=head_lr if config.head_lr is None else config.head_lr,
    )


def run_name(config: RunConfig) -> str:
    """Name a run after its main choices, with a hash of all of them.

    Args:
        config: The run.

    Returns:
        `<method>--<backbone>--<dataset>--<shots>shot--seed<k>--<8 hex digits>`; safe as a file
        name, whatever path the dataset has. Only equal configurations share a name; a learning
        rate that is left out equals the method's default, so changing a default changes names.

    Examples:
        >>> run_name(RunConfig(method="lora", shots=1))
        'lora--tiny-vit--digits--1shot--seed0--...'
    """
    text = json.dumps(resolve(config).to_dict(), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    parts = [config.method, config.backbone, Path(config.dataset).name]
    slugs = [re.sub(r"[^A-Za-z0-9_.]+", "-", part).strip("-.")[:60] or "unnamed" for part in parts]
    return "--".join([*slugs, f"{config.shots}shot", f"seed{config.seed}", digest])


def _require(ok: bool, name: str, value: object, rule: str) -> None:
    """Refuse a value, naming the field and the rule."""
    if not ok:
        raise ValueError(f"{name} must be {rule}, got {value!r}")
