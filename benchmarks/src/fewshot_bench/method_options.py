"""Options of single methods, each with its default."""

from dataclasses import dataclass
from typing import Literal

from fewshot_bench.schema import require

__all__ = ["LoraOptions", "SOConfig", "SnellOptions"]


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
        require(0 < self.density_ratio <= 1, "so.density_ratio", self.density_ratio, "in (0, 1]")
        require(self.T >= 1, "so.T", self.T, "at least 1")
        require(all(0 <= b < 1 for b in self.betas), "so.betas", self.betas, "in [0, 1)")


@dataclass(frozen=True)
class LoraOptions:
    """LoRA as PEFT implements it."""

    r: int = 4
    """Rank of the update of each linear layer."""
    alpha: int = 8
    """The update is scaled by alpha / r."""
    dropout: float = 0.0
    """Dropout on the input of the adapter branch."""
    root_scale: bool = False
    """Scale the update by alpha / sqrt(r) instead, as CLIP-LoRA does."""

    def __post_init__(self) -> None:
        require(self.r >= 1, "lora.r", self.r, "at least 1")
        require(self.alpha > 0, "lora.alpha", self.alpha, "positive")
        require(0 <= self.dropout < 1, "lora.dropout", self.dropout, "in [0, 1)")


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
    dropout: float = 0.0
    """Dropout on the input of each update but the attention's output; the release has 0.1."""
    drop_path: float = 0.0
    """Share of examples that go without an update in training; the release has 0.1."""

    def __post_init__(self) -> None:
        require(self.r >= 1, "snell.r", self.r, "at least 1")
        require(0 <= self.sparsity < 1, "snell.sparsity", self.sparsity, "in [0, 1)")
        for name in ("dropout", "drop_path"):
            value = getattr(self, name)
            require(0 <= value < 1, f"snell.{name}", value, "in [0, 1)")
        fixed = self.mask == "fixed"
        fits = not fixed or self.sparsifier == "hard"
        require(fits, "snell.sparsifier", self.sparsifier, "'hard' when snell.mask is 'fixed'")
        fits = not fixed or self.budget == "uniform"
        require(fits, "snell.budget", self.budget, "'uniform' when snell.mask is 'fixed'")
