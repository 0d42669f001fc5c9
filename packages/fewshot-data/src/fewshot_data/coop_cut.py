"""Cutting splits where no published one is at hand: sorted first, then shuffled by a seed."""

from collections.abc import Iterable, Sequence
from random import Random

from fewshot_data.split_file import Item, Items

__all__ = ["halves", "labelled", "with_val"]


def labelled(pairs: Iterable[tuple[str, str]]) -> list[Item]:
    """Give images their labels, the position of their class among the sorted names.

    Args:
        pairs: Path and class folder (what is sorted) of each image.

    Returns:
        The images, sorted by class and path; the folder is their name.

    Examples:
        >>> [item.label for item in labelled([("b/1.jpg", "b"), ("a/1.jpg", "a")])]
        [0, 1]
    """
    pairs = sorted(pairs, key=lambda pair: (pair[1], pair[0]))
    numbers = {name: n for n, name in enumerate(sorted({name for _, name in pairs}))}
    return [Item(path, numbers[name], name) for path, name in pairs]


def halves(items: Sequence[Item], seed: int) -> Items:
    """Cut every class into 50 % train, 20 % val and 30 % test.

    Args:
        items: All images.
        seed: Of the shuffle.

    Returns:
        The images of each split, by label.

    Raises:
        ValueError: If a class has fewer than three images.

    Examples:
        >>> parts = halves([Item(f"{n}.jpg", 0, "owl") for n in range(10)], seed=1)
        >>> [len(part) for part in parts.values()]
        [5, 2, 3]

    Reference:
        ``read_and_split_data`` of CoOp's ``dtd.py``, whose order of files is the disk's.
    """
    parts: Items = {"train": [], "val": [], "test": []}
    for group in _by_label(items):
        if len(group) < 3:
            raise ValueError(f"class '{group[0].name}' has {len(group)} image(s): 3 are needed")
        first, second = _cuts(len(group))
        _shuffle(group, seed)
        for split, part in zip(
            parts, (group[:first], group[first:second], group[second:]), strict=True
        ):
            parts[split] += part
    return parts


def with_val(train: Sequence[Item], test: Sequence[Item], seed: int) -> Items:
    """Put 20 % of every class of the official training set aside as the validation set.

    Args:
        train: The official training images.
        test: The official test images.
        seed: Of the shuffle.

    Returns:
        The images of each split.

    Examples:
        >>> parts = with_val([Item(f"{n}.jpg", 0, "owl") for n in range(10)], [], seed=1)
        >>> len(parts["train"]), len(parts["val"])
        (8, 2)

    Reference:
        ``split_trainval`` of CoOp's ``oxford_pets.py``.
    """
    parts: Items = {"train": [], "val": [], "test": list(test)}
    for group in _by_label(train):
        _shuffle(group, seed)
        cut = round(0.2 * len(group))
        parts["val"] += group[:cut]
        parts["train"] += group[cut:]
    return parts


def _cuts(count: int) -> tuple[int, int]:
    """Where a class is cut; every split gets at least one image."""
    first = min(max(1, round(0.5 * count)), count - 2)
    return first, min(max(first + 1, first + round(0.2 * count)), count - 1)


def _by_label(items: Sequence[Item]) -> list[list[Item]]:
    """Images of each class, sorted by path."""
    groups: dict[int, list[Item]] = {}
    for item in sorted(items, key=lambda item: (item.label, item.path)):
        groups.setdefault(item.label, []).append(item)
    return list(groups.values())


def _shuffle(group: list[Item], seed: int) -> None:
    """Shuffle a class by a stream of its own, so that no class disturbs another."""
    Random(f"fewshot-data split seed {seed} class {group[0].label}").shuffle(group)
