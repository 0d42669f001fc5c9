"""Options of the one loop: how long, at which rates and precision, and which weights count."""

from dataclasses import dataclass
from typing import Literal

from fewshot_bench.schema import require

__all__ = ["LoopOptions"]


@dataclass(frozen=True)
class LoopOptions:
    """How to train; an epoch is one pass over the shots, its last batch may be smaller."""

    epochs: int | None = None
    """Passes over the training set, in place of `steps`."""
    stop_epoch_loss: float = 0.0
    """End after an epoch whose mean loss is below this; 0 = never."""
    stop_batch_loss: float = 0.0
    """End after a step whose loss is at most this; 0 = never."""
    min_lr: float = 0.0
    """Where the cosine ends, in every parameter group."""
    warmup_epochs: int = 0
    """Epochs in which the rates rise linearly from `warmup_lr`."""
    warmup_lr: float = 0.0
    """Rate of every parameter group at the start of the warm-up."""
    rate_changes: Literal["step", "epoch"] = "step"
    """Set the rates at every step, or after every epoch as timm does (the first rate lasts two)."""
    selection: Literal["last", "best-on-test"] = "last"
    """Which weights count: the last, or the best on the TEST set, which flatters (marked)."""
    look_every: int = 10
    """With `best-on-test`: epochs between two looks, besides each of the last ten."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of the forward pass (autocast); fp16 scales its loss and needs a GPU."""
    accumulate: int = 1
    """Parts in which a batch is computed, one after the other: less memory, the same gradient."""
    checkpointing: bool = False
    """Compute each block again in backward instead of keeping what is inside it."""
    compile: bool = False
    """Compile the forward and the backward pass (torch.compile)."""
    decay_vectors: bool = True
    """Whether weight decay acts on biases, norms and the class token as well (AdamW only)."""
    clip_norm: float = 0.0
    """Largest norm of the whole gradient; 0 = any."""

    def __post_init__(self) -> None:
        ok = self.epochs is None or self.epochs >= 1
        require(ok, "loop.epochs", self.epochs, "at least 1")
        for name in ("stop_epoch_loss", "stop_batch_loss", "min_lr", "warmup_lr", "clip_norm"):
            require(getattr(self, name) >= 0, f"loop.{name}", getattr(self, name), "0 or more")
        for name, least in (("warmup_epochs", 0), ("look_every", 1), ("accumulate", 1)):
            value = getattr(self, name)
            require(value >= least, f"loop.{name}", value, f"at least {least}")
