"""Published numbers, and which of our runs each is to be compared with."""

from dataclasses import dataclass, field
from typing import Any

__all__ = ["MEAN", "MEAN_OF_GROUPS", "Published", "group_of"]

MEAN, MEAN_OF_GROUPS = "mean", "mean-of-groups"


@dataclass(frozen=True)
class Published:
    """Some numbers of one table of a paper or a release, in per cent.

    Args:
        source: Where they stand.
        values: A value of the field `by` to the number; `mean` for the mean over all datasets of
            the preset, `mean:GROUP` over those of a group of the registry, and `mean-of-groups`
            for the mean of the groups' means.
        by: The field that the keys of `values` are values of.
        when: The other fields that say which runs are meant.
        note: Why the number is to be trusted less than others; empty where it is not.
    """

    source: str
    values: dict[str, float]
    by: str = "dataset"
    when: dict[str, Any] = field(default_factory=dict)
    note: str = ""


def group_of(dataset: str) -> str:
    """Give the group of a dataset in the registry.

    Args:
        dataset: A registered name.

    Returns:
        Such as `vtab-natural`; empty for one's own data.

    Examples:
        >>> group_of("vtab-cifar")
        'vtab-natural'
    """
    from fewshot_data import load_spec

    return load_spec(dataset).group
