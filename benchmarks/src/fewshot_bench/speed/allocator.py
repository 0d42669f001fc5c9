"""What a GPU's allocator holds at the peak of a step, beside the bytes that were simulated for it.

The simulation knows tensors. A GPU also holds workspaces of its libraries, rounds every tensor up
to 512 bytes and may choose another attention than a CPU: the difference is what that comes to.
"""

import gc

import torch

from fewshot_bench.speed.record import AllocatorRow, MemoryRow, read_speed
from fewshot_bench.speed.session import Session
from fewshot_bench.speed.timing import Setting, prepare
from fewshot_bench.speed.variants import Choice

__all__ = ["measure_allocator", "predictions"]

STEPS = 2
"""Before the one that is measured: the optimizer has its state then, libraries their workspaces."""


def measure_allocator(session: Session) -> None:
    """Do every simulated step that was asked for on the GPU.

    Args:
        session: Takes the rows; its options say where the simulations are.
    """
    for choice, row in predictions(session):
        facts = {name: getattr(row, name) for name in ("model", "depth", "batch")}
        name = f"allocator, {choice.label}, {row.model}, batch {row.batch}"
        same = {"variant": row.variant, "density": row.density}
        if not session.has("allocator", **facts, **same):
            setting = Setting(row.model, row.batch, row.depth, session.options.device)
            peak = session.attempt(name, peak_of_step, setting, choice)
            if peak is not None:
                bytes_ = {"measured_bytes": peak, "predicted_bytes": row.peak_bytes}
                session.add("allocator", [AllocatorRow(**facts, **same, **bytes_)])
        session.say(name)


def predictions(session: Session) -> list[tuple[Choice, MemoryRow]]:
    """List the simulated steps whose model and variant were asked for.

    Args:
        session: Its options name result files with a part "memory".

    Returns:
        Each with the variant to run, in the order of the files.
    """
    chosen = {(choice.variant, choice.density): choice for choice in session.chosen}
    options, found = session.options, []
    for file in options.predicted:
        for row in read_speed(file).memory:
            choice = chosen.get((row.variant, row.density))
            asked = row.model in options.model and row.batch in options.memory_batch
            if choice is not None and asked:
                found.append((choice, row))
    return found


def peak_of_step(setting: Setting, choice: Choice) -> int:
    """Give the most bytes that the allocator had handed out during one training step.

    Args:
        setting: Model, batch and a CUDA device.
        choice: The variant.

    Returns:
        `torch.cuda.max_memory_allocated` of the step.
    """
    step = prepare(setting, choice)
    for _ in range(STEPS):
        step()
    torch.cuda.synchronize(setting.device)
    torch.cuda.reset_peak_memory_stats(setting.device)
    step()
    torch.cuda.synchronize(setting.device)
    peak = torch.cuda.max_memory_allocated(setting.device)
    del step
    gc.collect()
    torch.cuda.empty_cache()
    return peak
