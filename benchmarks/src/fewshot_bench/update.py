"""One update: forward and backward at some precision and in some parts, then the optimizer."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

from fewshot_bench.loop_options import LoopOptions
from fewshot_bench.metrics import gradient_bytes
from fewshot_bench.tuned import Tuned

__all__ = ["Precise", "precise", "update"]

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Log(Protocol):
    """What an update writes down."""

    gradient_bytes: int


@dataclass(frozen=True)
class Precise:
    """The precision of a training.

    Args:
        forward: Makes what surrounds a forward pass.
        scaler: Scales the loss, so that small gradients survive fp16; `None` elsewhere.
    """

    forward: Callable[[], AbstractContextManager[Any]]
    scaler: torch.amp.GradScaler | None = None


def precise(name: str, device: str) -> Precise:
    """Choose the precision of a training.

    Args:
        name: `fp32`, `bf16` or `fp16`.
        device: Where the model is.

    Returns:
        Autocast and, for fp16, a scaler.
    """
    if name == "fp32":
        return Precise(nullcontext)
    kind = torch.device(device).type
    scaler = torch.amp.GradScaler(kind) if name == "fp16" else None
    return Precise(lambda: torch.autocast(kind, TYPES[name]), scaler)


def update(
    tuned: Tuned,
    compute: Callable[[dict[str, torch.Tensor]], torch.Tensor],
    batch: dict[str, torch.Tensor],
    loop: LoopOptions,
    precision: Precise,
    log: Log,
) -> float:
    r"""Make one update, unless the loss is not finite.

    A batch of $n$ examples in $m$ parts of $n_i$ gives
    $L = \sum_i \frac{n_i}{n} L_i$, the loss of the whole.

    Args:
        tuned: Model and optimizer.
        compute: The model, perhaps compiled.
        batch: Examples, on the device.
        loop: Gives the number of parts and the largest norm.
        precision: From `precise`.
        log: Gets the bytes of the gradients, once.

    Returns:
        The loss.

    Raises:
        FloatingPointError: The loss or a gradient is not finite; nothing was changed.
    """
    optimizer, scaler = tuned.optimizer, precision.scaler
    assert optimizer is not None
    optimizer.zero_grad(set_to_none=True)
    value = 0.0
    for part, share in _parts(batch, loop.accumulate):
        with precision.forward():
            loss = cross_entropy(compute(part).float(), part["label"]) * share
        (loss if scaler is None else scaler.scale(loss)).backward()
        value += loss.item()
    if not math.isfinite(value):
        raise FloatingPointError(f"the loss is {value}")
    if not log.gradient_bytes:
        log.gradient_bytes = gradient_bytes(tuned)
    if loop.clip_norm:
        if scaler is not None:
            scaler.unscale_(optimizer)
        clip_grad_norm_(list(tuned.trained()), loop.clip_norm)
    try:
        _step(optimizer, scaler)
    except ValueError as refusal:  # SO refuses gradients that are not finite
        raise FloatingPointError(str(refusal).partition(":")[0]) from refusal
    return value


def _step(optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler | None) -> None:
    """Let the optimizer step, unless a scaled gradient overflowed: then the scale is halved."""
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()


def _parts(
    batch: dict[str, torch.Tensor], count: int
) -> list[tuple[dict[str, torch.Tensor], float]]:
    """Cut a batch into parts, each with its share of the examples."""
    if count == 1:
        return [(batch, 1.0)]
    size = len(batch["label"])
    rows = torch.arange(size).tensor_split(min(count, size))
    cut = [slice(int(part[0]), int(part[-1]) + 1) for part in rows]
    return [({k: v[s] for k, v in batch.items()}, (s.stop - s.start) / size) for s in cut]
