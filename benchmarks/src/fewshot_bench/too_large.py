"""A batch that does not fit into memory, and the batch that would."""

import torch
from torch.nn.functional import cross_entropy

from fewshot_bench.memory import watch_peak
from fewshot_bench.tuned import Tuned

__all__ = ["BatchTooLarge", "capacity", "fitting_batch"]


class BatchTooLarge(ValueError):
    """The device ran out of memory in a training step.

    Args:
        size: Examples that were computed at once.
        device: Where.
        fits: About how many would fit; 0 when not even one does, `None` when nobody knows.
    """

    def __init__(self, size: int, device: str, fits: int | None) -> None:
        about = {None: "", 0: "not even one fits; "}.get(fits, f"about {fits} would fit; ")
        parts = -(-size // fits) if fits else 2
        super().__init__(
            f"out of memory on {device!r} with {size} examples at once: {about}lower --batch-size, "
            f"or compute a batch in parts with --loop.accumulate {parts}, or keep less of it with "
            "--loop.checkpointing"
        )


def capacity(device: str) -> int | None:
    """Give the bytes that this process can have on a device.

    Args:
        device: `cpu` or a CUDA device.

    Returns:
        What is free and what it holds already; `None` on a CPU, which swaps instead.
    """
    if torch.device(device).type != "cuda":
        return None
    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)


def fitting_batch(
    tuned: Tuned, batch: dict[str, torch.Tensor], device: str, room: int | None
) -> int | None:
    """Search how many examples fit, by steps without an update; halving, so there are few.

    Args:
        tuned: The model; it is not changed, its gradients are dropped.
        batch: Examples that did not fit, at least two.
        device: Where the model is.
        room: Bytes, from `capacity`.

    Returns:
        Examples; 0 when one does not fit, `None` when it cannot be known.
    """
    if room is None or len(batch["label"]) < 2 or tuned.optimizer is None:
        return None
    fits, too_many = 0, len(batch["label"])
    while too_many - fits > 1:
        size = (fits + too_many) // 2
        try:
            small = _peak(tuned, {k: v[:size] for k, v in batch.items()}, device) <= room
        except torch.OutOfMemoryError:
            small = False
        fits, too_many = (size, too_many) if small else (fits, size)
    return fits


def _peak(tuned: Tuned, batch: dict[str, torch.Tensor], device: str) -> int:
    """Weigh forward and backward of a few examples."""
    assert tuned.optimizer is not None
    tuned.optimizer.zero_grad(set_to_none=True)
    with watch_peak(tuned, batch, device) as peak:
        cross_entropy(tuned.model(batch), batch["label"]).backward()
    tuned.optimizer.zero_grad(set_to_none=True)
    return peak.bytes
