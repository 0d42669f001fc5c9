"""Batches made from samples, in this process or by workers: the same ones in both cases."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from fewshot_data.kept import collate
from fewshot_data.pipeline import Staged
from fewshot_data.seeding import drawing, sample_seed

__all__ = ["Made", "Preparer", "Task", "stream"]


class Task(NamedTuple):
    """One batch that is to be made."""

    positions: list[int]
    """In the split."""
    epoch: int = 0
    """Number of the pass."""
    seed: int = 0


@dataclass(frozen=True)
class Made:
    """One batch that was made, or why not."""

    batch: dict[str, Tensor] | None = None
    """Before `Staged.finish`; ``None`` where no sample is left."""
    positions: list[int] = field(default_factory=list)
    """Of the samples that are in it."""
    lost: dict[int, str] = field(default_factory=dict)
    """Positions of unreadable samples, with the reason."""
    error: ValueError | None = None


@dataclass(frozen=True)
class Preparer:
    """Reads, transforms and collates samples; it can be sent to another process.

    Args:
        samples: All samples of the dataset; may be lazy.
        labels: Class number of every sample of the dataset.
        indices: Which of them belong to the split.
        modality: ``"image"`` or ``"text"``: the key of what the transform makes.
        transform: From a sample to a tensor or a dict of tensors.
        fixed: Whether the transform gives the same result each time.
        skip: Whether unreadable samples are left out.

    Examples:
        >>> prepare = Preparer([0.0, 1.0], [0, 1], (1,), "image", torch.tensor, fixed=True)
        >>> prepare(Task([0])).batch
        {'image': tensor([1.]), 'label': tensor([1])}
    """

    samples: Sequence[Any]
    labels: Sequence[int]
    indices: Sequence[int]
    modality: str
    transform: Any
    fixed: bool
    skip: bool = False

    def __call__(self, task: Task) -> Made:
        """Make one batch; errors about data are handed back, so that they look alike anywhere."""
        items, lost = {}, {}
        try:
            for position in task.positions:
                try:
                    sample = self.samples[self.indices[position]]
                except ValueError as error:
                    if not self.skip:
                        raise
                    lost[position] = str(error)
                    continue
                items[position] = self.item(position, sample, task)
            batch = collate(list(items.values())) if items else None
        except ValueError as error:
            return Made(error=error)
        return Made(batch, list(items), lost)

    def item(self, position: int, sample: Any, task: Task) -> dict[str, Tensor]:
        """One transformed sample under the names that a backbone reads, not yet finished."""
        if self.fixed:
            return self.named(position, _first_stage(self.transform)(sample))
        with drawing(self.transform, sample_seed(task.seed, task.epoch, position)) as transform:
            return self.named(position, _first_stage(transform)(sample))

    def named(self, position: int, value: Any) -> dict[str, Any]:
        """What a transform gave, with the label."""
        named = dict(value) if isinstance(value, Mapping) else {self.modality: value}
        return {**named, "label": torch.tensor(self.labels[self.indices[position]])}

    def finish(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Do what a staged transform does to a whole batch."""
        if not isinstance(self.transform, Staged):
            return batch
        return {**batch, self.modality: self.transform.finish(batch[self.modality])}


def _first_stage(transform: Any) -> Callable[[Any], Any]:
    """What is done to a single sample."""
    return transform.pixels if isinstance(transform, Staged) else transform


class _Batches(Dataset[Made]):
    """A dataset whose keys are tasks and whose items are batches."""

    def __init__(self, make: Callable[[Task], Made]) -> None:
        self.make = make

    def __getitem__(self, index: Task) -> Made:
        return self.make(index)


class _Plan(Sampler[Task]):
    """Tasks in order, as many as there are."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self.tasks = tasks

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks)


def stream(
    make: Callable[[Task], Made], tasks: Iterable[Task], workers: int
) -> Generator[Made, None, None]:
    """Make batches in the order of their tasks.

    Args:
        make: Makes one.
        tasks: What is to be made; may be endless.
        workers: Processes that make batches ahead; 0 makes them here when they are asked for.

    Yields:
        The batches. Close the iterator to end the workers: left to the garbage collector, which may
        take their queues away first, they are waited for.

    Examples:
        >>> [made.positions for made in stream(lambda t: Made(None, t.positions), [Task([3])], 0)]
        [[3]]
    """
    if workers == 0:
        yield from map(make, tasks)
        return
    # The loader draws a seed for its workers: not from the global generator, and never used.
    own = torch.Generator().manual_seed(0)
    yield from DataLoader(
        _Batches(make),
        sampler=_Plan(tasks),
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,
        generator=own,
    )


def _as_it_is(made: Any) -> Any:
    """Leave a batch alone."""
    return made
