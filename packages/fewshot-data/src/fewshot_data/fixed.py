"""What published data fixes by itself: the size of every split, and the whole training set."""

from collections.abc import Callable, Mapping, Sequence

from fewshot_data.registry import DatasetSpec

__all__ = ["size_complaints", "whole_train"]


def size_complaints(spec: DatasetSpec, sizes: Mapping[str, int]) -> tuple[str, ...]:
    """Say where split sizes are not the published ones.

    Args:
        spec: Its ``splits`` hold the published sizes; sentences are skipped.
        sizes: The sizes found.

    Returns:
        One sentence per split that differs.

    Examples:
        >>> from fewshot_data import load_spec
        >>> size_complaints(load_spec("digits"), {"test": 799})
        ("dataset 'digits': the test split has 799 samples instead of 800",)
    """
    return tuple(
        f"dataset '{spec.name}': the {split} split has {size} samples instead of {wanted}"
        for split, size in sizes.items()
        if isinstance(wanted := spec.splits.get(split), int) and wanted != size
    )


def whole_train(train: Sequence[int], name: str) -> Callable[[int, int], list[int]]:
    """The official training set of a dataset that fixes one, and no few-shot sets.

    Args:
        train: Positions of the training samples.
        name: The dataset's name, for the message.

    Returns:
        What `RawDataset.official` holds; it answers to shots of -1 only.

    Examples:
        >>> whole_train([0, 1, 2], "toy")(-1, 1)
        [0, 1, 2]
    """

    def official(shots: int, seed: int) -> list[int]:
        if shots != -1:
            raise ValueError(
                f"dataset '{name}' fixes one training set of {len(train)} samples and no few-shot "
                f"sets, but shots is {shots}: give shots=-1, or another protocol"
            )
        return list(train)

    return official
