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

from fewshot_bench.data_options import DataOptions, PlaceOptions
from fewshot_bench.loop_options import LoopOptions
from fewshot_bench.method_options import LoraOptions, SnellOptions, SOConfig
from fewshot_bench.schema import plain, read, require

__all__ = [
    "PEERS", "LoraOptions", "RunConfig", "SOConfig", "SnellOptions", "recorded", "resolve",
    "run_name",
]  # fmt: skip

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


PLACES = ("root", "weights")
"""Fields that say where things lie on this machine, and nothing about the run."""
LATE_GROUPS = ("data", "place", "loop")
LATE = {"lora": ("root_scale",), "snell": ("dropout", "drop_path")}
"""Options that came after the first results: at their default they leave a run's name alone."""


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
    """Training examples per class; of protocol `official`, -1 is the whole training set."""
    seed: int = 0
    """Selects the shots, the test split, the initial weights, the supports and the batch order."""
    protocol: str = "nested"
    """How shots are drawn: nested (the 1-shot set lies inside the 4-shot set of the same seed), or
    as in a release: coop, so, clip-lora, tip-adapter; official is what the data itself fixes."""
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
    root: str | None = None
    """Folder of the datasets on disk; none = FEWSHOT_DATA_ROOT. Not part of a run's identity."""
    weights: str | None = None
    """Folder in which a checkpoint's file is looked for. Not part of a run's identity."""
    data: DataOptions = field(default_factory=DataOptions)
    """What examples are made of, and how they are prepared."""
    place: PlaceOptions = field(default_factory=PlaceOptions)
    """Which layers `so`, `lora`, `klora` and `snell` change."""
    loop: LoopOptions = field(default_factory=LoopOptions)
    """How long, at which precision and with which selection to train."""

    def __post_init__(self) -> None:
        whole = self.shots == -1 and self.protocol == "official"
        rule = "at least 1" + " (-1 needs --protocol official)" * (self.shots == -1)
        require(whole or self.shots >= 1, "shots", self.shots, rule)
        for name in ("batch_size", "threads"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("steps", "seed"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        for name in ("lr", "head_lr"):
            value = getattr(self, name)
            ok = value is None or 0 < value <= MAX_RATE
            require(ok, name, value, f"a positive number, at most {MAX_RATE:g}")
        ok = self.weight_decay >= 0 and math.isfinite(self.weight_decay)
        require(ok, "weight_decay", self.weight_decay, "0 or more")
        ok = self.test_limit is None or self.test_limit >= 1
        require(ok, "test_limit", self.test_limit, "at least 1")
        ok = self.loop.precision != "fp16" or self.device.startswith("cuda")
        require(ok, "loop.precision", "fp16", f"fp32 or bf16 on {self.device!r}: fp16 needs a GPU")

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
    text = json.dumps(_identity(resolve(config)), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    parts = [config.method, config.backbone, Path(config.dataset).name]
    slugs = [re.sub(r"[^A-Za-z0-9_.]+", "-", part).strip("-.")[:60] or "unnamed" for part in parts]
    return "--".join([*slugs, f"{config.shots}shot", f"seed{config.seed}", digest])


def recorded(config: RunConfig) -> dict[str, Any]:
    """Give a configuration as it is written to files: without the places of this machine.

    Args:
        config: The run.

    Returns:
        As from `RunConfig.to_dict`, without `root` and `weights`.

    Examples:
        >>> "root" in recorded(RunConfig(root="elsewhere"))
        False
    """
    return {key: value for key, value in config.to_dict().items() if key not in PLACES}


def _identity(config: RunConfig) -> dict[str, Any]:
    """Give what tells two runs apart; a later option counts where it is not at its default."""
    table, usual = recorded(config), recorded(RunConfig())
    for group, options in table.items():
        if isinstance(options, dict):
            late = LATE.get(group, tuple(options) if group in LATE_GROUPS else ())
            unused = [key for key in late if options[key] == usual[group][key]]
            table[group] = {k: v for k, v in options.items() if k not in unused}
    return {key: value for key, value in table.items() if value != {}}
