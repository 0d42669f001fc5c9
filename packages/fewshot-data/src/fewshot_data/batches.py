"""One drawn split: a dataset, and batches in order or endlessly shuffled."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from fewshot_data.decoded import Decoded
from fewshot_data.images import ImageFiles
from fewshot_data.kept import Kept
from fewshot_data.loading import Loading
from fewshot_data.prepare import Made, Preparer, Task, stream

__all__ = ["Split"]


class Split(Dataset[dict[str, Any]]):
    """The drawn samples of one split, as a dataset and as batches.

    Args:
        samples: All samples of the dataset; may be lazy.
        labels: Class number of every sample of the dataset.
        indices: Which of them belong to the split; repeats are allowed.
        modality: ``"image"`` or ``"text"``.
        transform: From a sample to a tensor or a dict of tensors; ``None`` leaves it as it is.
        fixed: Whether the transform gives the same result each time, so that results are kept in
            memory if all of them fit. Otherwise decoded images are kept, as many as fit.
        loading: How image files are read and how much is kept; see `Loading`.

    Examples:
        >>> split = Split([0.0, 1.0], [0, 1], [1], "image", torch.tensor, fixed=True)
        >>> split[0]
        {'image': tensor(1.), 'label': tensor(1)}
    """

    skipped: dict[int, str]
    """Positions of unreadable samples that were left out, with the reason."""

    def __init__(
        self,
        samples: Sequence[Any],
        labels: Sequence[int],
        indices: Sequence[int],
        modality: str,
        transform: Any = None,
        *,
        fixed: bool = True,
        loading: Loading | None = None,
    ) -> None:
        self.samples, self.labels, self.indices = samples, labels, tuple(indices)
        self.modality, self.transform, self.fixed = modality, transform, fixed
        self.loading, self.skipped = loading or Loading(), {}
        self._kept = Kept(len(self.indices), self._fixed_item, self.loading.memory)
        self._prepare = Preparer(
            self._readable(samples),
            labels,
            self.indices,
            modality,
            transform,
            fixed,
            self.loading.on_error == "skip",
        )

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self._prepare.samples[self.indices[index]]
        value = sample if self.transform is None else self.transform(sample)
        return self._prepare.named(index, value)

    def relabelled(self, numbers: Mapping[int, int]) -> "Split":
        """Keep the samples of some classes, under other labels.

        Args:
            numbers: Old label to new label; samples of other labels are left out.

        Returns:
            A new split with the same transform.

        Examples:
            >>> split = Split(["a", "b"], [0, 1], [0, 1], "text")
            >>> split.relabelled({1: 0})[0]["label"]
            tensor(0)
        """
        kept = [index for index in self.indices if self.labels[index] in numbers]
        labels = [numbers.get(label, 0) for label in self.labels]
        return Split(
            self.samples, labels, kept, self.modality, self.transform,
            fixed=self.fixed, loading=self.loading,
        )  # fmt: skip

    def shuffled(
        self, batch_size: int, *, seed: int, workers: int = 0
    ) -> Iterator[dict[str, Tensor]]:
        """Endless batches; every pass is a new permutation, its last batch may be smaller.

        Args:
            batch_size: Samples in a batch, at least 1.
            seed: Of the order, and (from a stream of its own for each pass and sample) of a random
                transform.
            workers: Processes that prepare images; batches do not depend on how many.

        Yields:
            Batches with ``label`` int64 ``(B,)`` and what the transform makes.

        Raises:
            ValueError: If there is nothing to draw, no transform, ``batch_size`` is below 1 or
                ``workers`` below 0; and for an image that cannot be read.

        Examples:
            >>> split = Split([0.0, 1.0], [0, 1], [0, 1], "image", torch.tensor)
            >>> sorted(next(split.shuffled(2, seed=0))["image"].tolist())
            [0.0, 1.0]
        """
        self._check(batch_size, workers)
        if len(self) == 0:
            raise ValueError("there is no training sample (shots=0): give shots of at least 1")
        return self._endless(batch_size, seed, self._useful(workers))

    def in_order(self, batch_size: int, *, workers: int = 0) -> Iterator[dict[str, Tensor]]:
        """One pass over the split, in its own order.

        Args:
            batch_size: Samples in a batch, at least 1.
            workers: Processes that prepare images; batches do not depend on how many.

        Yields:
            Batches with ``label`` int64 ``(B,)`` and what the transform makes.

        Raises:
            ValueError: If there is no transform, ``batch_size`` is below 1 or ``workers`` below 0;
                and for an image that cannot be read.

        Examples:
            >>> split = Split([0.0, 1.0], [0, 1], [0, 1], "image", torch.tensor)
            >>> [len(batch["label"]) for batch in split.in_order(1)]
            [1, 1]
        """
        self._check(batch_size, workers)
        return self._batches(self._once(batch_size), self._useful(workers))

    def _endless(self, batch_size: int, seed: int, workers: int) -> Iterator[dict[str, Tensor]]:
        """Pass after pass over permutations of the split."""
        if workers:
            self._fill(batch_size, workers)
        return self._batches(self._forever(batch_size, seed), workers)

    def _once(self, batch_size: int) -> Iterator[Task]:
        """The tasks of one pass in order."""
        for start in range(0, len(self), batch_size):
            yield Task(list(range(start, min(start + batch_size, len(self)))))

    def _forever(self, batch_size: int, seed: int) -> Iterator[Task]:
        """The tasks of all passes over permutations."""
        order = torch.Generator().manual_seed(seed)
        for epoch in count():
            for part in torch.randperm(len(self), generator=order).split(batch_size):
                yield Task(part.tolist(), epoch, seed)

    def _batches(self, tasks: Iterable[Task], workers: int) -> Iterator[dict[str, Tensor]]:
        """Batches from memory if they are all there, else made here or by workers."""
        from_memory = self.fixed and (workers == 0 or self._kept.complete)
        make, workers = (self._recall, 0) if from_memory else (self._prepare, workers)
        with closing(stream(make, tasks, workers)) as made:
            for one in made:
                batch = self._take(one)
                if batch is not None:
                    yield self._prepare.finish(batch)

    def _recall(self, task: Task) -> Made:
        """A batch of samples that are remembered, or made now and remembered."""
        return Made(self._kept.batch(torch.tensor(task.positions)))

    def _take(self, made: Made) -> dict[str, Tensor] | None:
        """The batch that was made; what is lost is noted, what is fixed is remembered."""
        if made.error is not None:
            raise made.error
        self._lose(made.lost)
        if self.fixed and made.positions:
            self._kept.remember(made.positions, made.batch)
        return made.batch

    def _fill(self, batch_size: int, workers: int) -> None:
        """Let workers read everything once, if it can be kept."""
        images = self._prepare.samples
        if isinstance(images, Decoded):
            images.fill(self.indices, workers)
        elif self.fixed and not self._kept.complete:
            with closing(stream(self._prepare, self._once(batch_size), workers)) as made:
                for one in made:
                    self._take(one)
                    if not all(map(self._kept.holds, one.positions)):
                        return  # there is no room

    def _fixed_item(self, position: int) -> dict[str, Tensor] | None:
        """One transformed sample, or ``None`` if it cannot be read and may be left out."""
        made = self._prepare(Task([position]))
        if made.error is not None:
            raise made.error
        self._lose(made.lost)
        return made.batch and {key: value[0] for key, value in made.batch.items()}

    def _lose(self, lost: dict[int, str]) -> None:
        """Note unreadable samples, and stop where nothing is left."""
        for position, reason in lost.items():
            if position not in self.skipped:
                self.skipped[position] = reason
                warnings.warn(f"left out: {reason}", UserWarning, stacklevel=2)
        self._kept.remember(list(lost), None)
        if self.skipped and len(self.skipped) == len(self):
            reason = next(iter(self.skipped.values()))
            raise ValueError(f"none of the {len(self)} samples can be read; the first: {reason}")

    def _readable(self, samples: Sequence[Any]) -> Sequence[Any]:
        """The samples as they are read: image files as `Loading` says, and decoded once."""
        if isinstance(samples, ImageFiles):
            samples = samples.under(self.loading)
        lazy = self.modality == "image" and not isinstance(samples, list | tuple)
        return Decoded(samples, self._kept.limit) if lazy and not self.fixed else samples

    def _useful(self, workers: int) -> int:
        """Workers for images; texts are tokenised once, which is done before workers start."""
        return workers if self.modality == "image" else 0

    def _check(self, batch_size: int, workers: int) -> None:
        """Refuse what cannot give a batch of tensors."""
        if workers < 0:
            raise ValueError(f"workers is {workers}: give the number of processes, or 0")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: give at least 1")
        if self.transform is None:
            helper = "image_transforms" if self.modality == "image" else "text_transforms"
            raise ValueError(
                f"batches need tensors, and no transform was given: pass transform={helper}(...) "
                "from fewshot_data.transforms to few_shot or with_transform"
            )
