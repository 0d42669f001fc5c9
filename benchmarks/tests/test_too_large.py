"""A batch that does not fit: what would fit is measured, and said in one line."""

from collections.abc import Callable

import pytest
import torch

from fewshot_bench import fit, too_large
from fewshot_bench.config import RunConfig
from fewshot_bench.methods import find_method
from fewshot_bench.task import open_task
from fewshot_bench.too_large import BatchTooLarge, fitting_batch
from fewshot_bench.tuned import Tuned

EXAMPLES = {"image": torch.zeros(8, 3, 32, 32), "label": torch.zeros(8, dtype=torch.long)}


@pytest.fixture
def tuned(configure: Callable[..., RunConfig]) -> Tuned:
    config = configure("full")
    return find_method("full").build(open_task(config)[1], config)


def test_the_batch_that_would_fit_fits_and_a_larger_one_does_not(tuned: Tuned) -> None:
    def peak(size: int) -> int:
        return too_large._peak(tuned, {k: v[:size] for k, v in EXAMPLES.items()}, "cpu")

    peaks = [peak(size) for size in range(1, 9)]
    room = (peaks[4] + peaks[5]) // 2
    assert peaks[4] < peaks[5]
    assert fitting_batch(tuned, EXAMPLES, "cpu", room) == 5


def test_nothing_is_claimed_where_nothing_is_known(tuned: Tuned) -> None:
    assert fitting_batch(tuned, EXAMPLES, "cpu", None) is None
    assert fitting_batch(tuned, EXAMPLES, "cpu", 10) == 0


@pytest.mark.parametrize(
    ("fits", "said"),
    [
        (12, "about 12 would fit; .*--loop.accumulate 3"),
        (0, "not even one fits"),
        (None, "at once: lower --batch-size"),
    ],
)
def test_the_message_says_what_to_do(fits: int | None, said: str) -> None:
    with pytest.raises(BatchTooLarge, match=said):
        raise BatchTooLarge(32, "cuda", fits)


def test_the_loop_says_it(tuned: Tuned) -> None:
    class Full(torch.nn.Module):
        """Has room for two examples."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = tuned.model

        def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            if len(batch["label"]) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return self.inner(batch)

    small = Tuned(Full(), tuned.optimizer)
    with pytest.raises(BatchTooLarge, match=r"out of memory on 'cpu' with 8 examples"):
        fit.fit(small, iter([EXAMPLES] * 2), steps=2)
    with pytest.raises(BatchTooLarge, match="with 4 examples"):
        fit.fit(small, iter([EXAMPLES]), steps=1, loop=fit.LoopOptions(accumulate=2))
    assert len(fit.fit(small, iter([EXAMPLES]), steps=1, loop=fit.LoopOptions(accumulate=4)).loss)
