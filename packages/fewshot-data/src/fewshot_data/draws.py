"""From a whole dataset to a draw: by a protocol, or as the data itself fixes it."""

from fewshot_data.raw import RawDataset
from fewshot_data.sampling import sample_splits

__all__ = ["OFFICIAL", "draw"]

OFFICIAL = "official"
"""The protocol of data that fixes its training set: NOAH's lists, SO's rows of RTE, FGVC, VTAB."""


def draw(
    raw: RawDataset, protocol: str, shots: int, *, seed: int, replace: bool, name: str
) -> tuple[list[int], list[int]]:
    """Positions of the training and of the validation samples.

    Args:
        raw: The dataset.
        protocol: ``"official"``, or one of `fewshot_data.sampling.PROTOCOLS`.
        shots: Training samples per class; for ``"official"`` whatever number names one of the
            data's own sets, and -1 for the whole training set.
        seed: Of the draw.
        replace: Fill up classes that have too few samples.
        name: The dataset's name, for messages.

    Returns:
        The two lists; ``"official"`` keeps the whole validation split.

    Raises:
        ValueError: If the protocol is unknown, the data fixes no training set, or it fixes none
            of this number of shots.

    Examples:
        >>> raw = RawDataset("abcd", [0, 0, 1, 1], ("x", "y"), [0, 2], [1, 3])
        >>> draw(raw, "nested", 1, seed=0, replace=False, name="toy")
        ([0, 2], [])
    """
    if protocol == OFFICIAL:
        if raw.official is None:
            raise ValueError(
                f"dataset '{name}' fixes no training set, so there is no protocol 'official' of "
                "it: use 'nested', 'coop' or 'so'"
            )
        return raw.official(shots, seed), list(raw.val_indices)
    return sample_splits(
        protocol,
        raw.labels,
        raw.train_indices,
        raw.val_indices,
        shots,
        seed=seed,
        replace=replace,
        class_names=raw.class_names,
    )
