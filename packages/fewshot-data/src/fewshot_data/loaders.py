"""The front door: a dataset, $k$ samples of each class, and batches ready for a backbone."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fewshot_data.base_new import subsample as subsampled
from fewshot_data.batches import Split
from fewshot_data.loading import Loading
from fewshot_data.protocols import draw
from fewshot_data.raw import RawDataset
from fewshot_data.registry import DatasetSpec, load_spec
from fewshot_data.sources import open_source

__all__ = ["ROOT_VARIABLE", "FewShotData", "few_shot"]

ROOT_VARIABLE = "FEWSHOT_DATA_ROOT"
"""The environment variable that names the folder of all datasets."""


@dataclass(frozen=True)
class FewShotData:
    """A few-shot training set with its test set, made by `few_shot`.

    Items of ``train``, ``test`` and ``val`` are dicts with ``label`` (int64 scalar) and the
    sample: ``image``, ``text``, or whatever dict the transform makes. ``train.indices`` and its
    siblings say which samples of the dataset were drawn.

    Args:
        spec: The dataset.
        shots: Training samples per class.
        seed: Of the draw, and of the test split where the dataset has no official one.
        protocol: How samples were drawn.
        class_names: Class names in label order, as the dataset spells them.
        train: The drawn samples.
        test: All test samples.
        val: A few validation samples, or ``None`` where the dataset has none.
        origin: One sentence on where samples and splits come from.
        published: Whether the splits are the ones that published numbers were made on.
        names: What identifies every sample of the dataset wherever it lies (the path of an image
            below its folder); empty where samples have no files.

    Examples:
        >>> data = few_shot("digits", 4, seed=1)
        >>> len(data.train), data.class_names[:2]
        (40, ('digit zero', 'digit one'))
    """

    spec: DatasetSpec
    shots: int
    seed: int
    protocol: str
    class_names: tuple[str, ...]
    train: Split
    test: Split
    val: Split | None = None
    origin: str = ""
    published: bool = True
    names: tuple[str, ...] = ()

    @property
    def modality(self) -> str:
        """``"image"`` or ``"text"``."""
        return self.spec.modality

    @property
    def templates(self) -> tuple[str, ...]:
        """Prompt templates with ``{}`` for the class name."""
        return self.spec.templates.get("plain") or ("{}",)

    @property
    def prompt_names(self) -> tuple[str, ...]:
        """Class names as they read in a prompt: underscores become spaces."""
        return tuple(name.replace("_", " ") for name in self.class_names)

    def with_transform(self, transform: Any, loading: Loading | None = None) -> "FewShotData":
        """The same samples under another transform.

        Args:
            transform: A callable, used for all splits and taken to be deterministic; or an object
                with callables ``train`` and ``test``, such as `Transforms`; or ``None``.
            loading: What is kept in memory and what happens to broken image files; see
                `fewshot_data.loading.Loading`.

        Returns:
            A new `FewShotData`; this one stays as it is.

        Raises:
            ValueError: If ``transform`` is neither.

        Examples:
            >>> from fewshot_data.transforms import image_transforms
            >>> data = few_shot("digits", 1, seed=1).with_transform(image_transforms(32, 0.25, 0.4))
            >>> tuple(data.test[0]["image"].shape)
            (3, 32, 32)
        """
        train, test = _callables(transform)
        return dataclasses.replace(
            self,
            train=_transformed(
                self.train, train, loading, fixed=train is test or getattr(train, "fixed", False)
            ),
            test=_transformed(self.test, test, loading),
            val=self.val and _transformed(self.val, test, loading),
        )

    def train_batches(
        self, batch_size: int, *, seed: int, workers: int = 0
    ) -> Iterator[dict[str, Tensor]]:
        """Endless training batches, reshuffled every pass; the last of a pass may be smaller.

        Args:
            batch_size: Samples in a batch, at least 1.
            seed: Of the order and of a random transform; the global generator is not touched.
            workers: Processes that prepare images; batches do not depend on how many.

        Returns:
            Batches of ``label`` int64 ``(B,)`` with ``image`` float ``(B, C, H, W)``, or
            ``input_ids`` and ``attention_mask`` int64 ``(B, longest)``.

        Raises:
            ValueError: If no transform was given, ``shots`` is 0 or ``batch_size`` is below 1.

        Examples:
            >>> from fewshot_data.transforms import image_transforms
            >>> data = few_shot("digits", 2, seed=1, transform=image_transforms(32, 0.25, 0.4))
            >>> tuple(next(data.train_batches(8, seed=0))["image"].shape)
            (8, 3, 32, 32)
        """
        return self.train.shuffled(batch_size, seed=seed, workers=workers)

    def test_batches(self, batch_size: int, *, workers: int = 0) -> Iterator[dict[str, Tensor]]:
        """One pass over the test set, in order.

        Args:
            batch_size: Samples in a batch, at least 1; the last batch may be smaller.
            workers: Processes that prepare images; batches do not depend on how many.

        Returns:
            Batches shaped like those of `train_batches`.

        Raises:
            ValueError: If no transform was given, ``batch_size`` is below 1 or there is no test
                sample.

        Examples:
            >>> from fewshot_data.transforms import image_transforms
            >>> data = few_shot("digits", 1, seed=1, transform=image_transforms(32, 0.25, 0.4))
            >>> sum(len(batch["label"]) for batch in data.test_batches(300))
            800
        """
        if len(self.test) == 0:
            raise ValueError(f"dataset '{self.spec.name}' has no test sample to make batches of")
        return self.test.in_order(batch_size, workers=workers)


def few_shot(
    dataset: str | Path | DatasetSpec,
    shots: int,
    *,
    seed: int,
    protocol: str = "nested",
    transform: Any = None,
    root: str | Path | None = None,
    replace: bool = False,
    strict: bool = False,
    subsample: str = "all",
    text_column: str | Sequence[str] | None = None,
    label_column: str | None = None,
) -> FewShotData:
    """Draw a few-shot training set and give it together with the test set.

    Args:
        dataset: A registry name, the path of one's own data, or a spec; see `load_spec`.
        shots: Training samples per class, at least 0. For ``"official"`` what names one of the
            data's own sets, such as 32 (rows in all) for RTE; -1 is the whole training set.
        seed: Of the draw, and of the test split where the dataset has no official one.
        protocol: ``"nested"`` (larger draws contain smaller ones), ``"coop"``, ``"so"``,
            ``"clip-lora"``, ``"tip-adapter"`` or ``"official"``; see `fewshot_data.protocols.draw`.
        transform: See `FewShotData.with_transform`; ``None`` leaves samples as they are.
        root: Where the data lies: the folder of all datasets or this dataset's own. Without it,
            the environment variable ``FEWSHOT_DATA_ROOT``; embedded data needs neither.
        strict: Refuse data on disk whose classes or counts differ from the published ones,
            instead of warning.
        subsample: ``"base"`` or ``"new"`` for one half of the classes; see
            `fewshot_data.base_new.subsample`.
        replace: Fill up classes that have fewer than ``shots`` samples by repeating some.
        text_column: For a text file, the column with the texts, or the two with sentence pairs;
            found by usual names otherwise.
        label_column: For a text file, the column with the labels; found by usual names otherwise.

    Returns:
        The few-shot data.

    Raises:
        ValueError: If an argument is unknown, unusable or does not fit the data; the message says
            which and what to do.
        FileNotFoundError: If there is no data where it was looked for.

    Examples:
        >>> one, four = few_shot("digits", 1, seed=1), few_shot("digits", 4, seed=1)
        >>> set(one.train.indices) < set(four.train.indices)
        True
    """
    spec = dataset if isinstance(dataset, DatasetSpec) else load_spec(dataset)
    spec = _with_columns(spec, text_column=text_column, label_column=label_column)
    where = root or spec.root or os.environ.get(ROOT_VARIABLE)
    raw = open_source(spec.at(where) if where else spec, seed=seed, strict=strict)
    train, val = draw(raw, protocol, shots, seed=seed, replace=replace)
    data = FewShotData(
        spec=spec,
        shots=shots,
        seed=seed,
        protocol=protocol,
        class_names=raw.class_names,
        train=_split(raw, train, spec.modality),
        test=_split(raw, raw.test_indices, spec.modality),
        val=_split(raw, val, spec.modality) if val else None,
        origin=raw.origin,
        published=raw.published,
        names=tuple(raw.names),
    )
    return subsampled(data.with_transform(transform), subsample)


def _with_columns(spec: DatasetSpec, **columns: str | Sequence[str] | None) -> DatasetSpec:
    """The spec with the columns that were asked for, if it has columns at all."""
    given = {
        key: value if isinstance(value, str) else ",".join(value)
        for key, value in columns.items()
        if value is not None
    }
    if not given:
        return spec
    if spec.source not in ("table", "hub"):
        key, value = next(iter(given.items()))
        raise ValueError(
            f"{key}='{value}' names a column of a text file, but dataset '{spec.name}' "
            f"comes from source '{spec.source}': leave {key} out"
        )
    return dataclasses.replace(spec, options={**spec.options, **given})


def _split(raw: RawDataset, indices: list[int], modality: str) -> Split:
    """A split without a transform."""
    return Split(raw.samples, raw.labels, indices, modality)


def _transformed(
    split: Split, transform: Any, loading: Loading | None, *, fixed: bool = True
) -> Split:
    """The split under another transform."""
    return Split(
        split.samples,
        split.labels,
        split.indices,
        split.modality,
        transform,
        fixed=fixed,
        loading=loading or split.loading,
    )


def _callables(transform: Any) -> tuple[Callable[[Any], Any] | None, Callable[[Any], Any] | None]:
    """The transforms of training and testing."""
    if transform is None or callable(transform):
        return transform, transform
    train, test = getattr(transform, "train", None), getattr(transform, "test", None)
    if callable(train) and callable(test):
        return train, test
    raise ValueError(
        f"transform is {transform!r}: give a callable, or an object with callables .train and "
        ".test, such as fewshot_data.transforms.image_transforms(...)"
    )
