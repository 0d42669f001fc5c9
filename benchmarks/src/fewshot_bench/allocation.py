"""SNELLA's competition between layers, around an optimizer: the loop knows nothing of it."""

from collections.abc import Callable
from typing import Any

from fewshot_bench.config import RunConfig
from fewshot_bench.tuned import Tuned

__all__ = ["ALLOCATIONS", "allocate_while_training"]

ALLOCATIONS = 10
"""How often a training shares its budget out: at the start of each of that many equal parts."""


OnAllocate = Callable[[int, dict[str, float]], None]


def allocate_while_training(
    tuned: Tuned, config: RunConfig, *, on_allocate: OnAllocate | None = None
) -> Tuned:
    r"""Let the layers of a SNELL model compete for a number of entries that falls as it trains.

    The budget starts dense and falls with the cube of the time that is left; in the last of the
    ten parts it is that of the same model without competition, $\sum (1 - s)\,mn$ entries.

    Args:
        tuned: Model and optimizer of `snell`; the optimizer gets hooks.
        config: Gives $s$ (`snell.sparsity`) and the number of steps.
        on_allocate: Called with the steps done and the sparsity of every layer from then on.

    Returns:
        `tuned`, with the budget of the first part shared out.

    Reference:
        `snell_layers.SparsityAllocator`.
    """
    from snell_layers import SparsityAllocator

    if tuned.optimizer is None:
        raise ValueError("tuned has no optimizer: nothing would ever be allocated")
    parts = min(ALLOCATIONS, config.steps)
    allocator = SparsityAllocator(
        tuned.model, final_sparsity=config.snell.sparsity, total=max(parts, 2), final_warmup=1
    )
    done = 0

    def allocate(part: int) -> None:
        pattern = allocator.allocate(part)
        if on_allocate:
            on_allocate(done, pattern)

    def after_step(*_: Any) -> None:
        nonlocal done
        part, done = done * parts // config.steps, done + 1
        allocator.observe()
        if part < done * parts // config.steps < parts:
            allocate(done * parts // config.steps)

    allocate(0)
    tuned.optimizer.register_step_post_hook(after_step)
    return tuned
