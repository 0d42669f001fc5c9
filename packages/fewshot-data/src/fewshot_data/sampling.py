"""Which samples are drawn: $k$ per class, from private generators, by a named protocol."""

from collections.abc import Sequence
from random import Random

__all__ = ["VAL_SHOTS", "draw_per_class", "few_shot_indices", "held_out", "nested_val"]

VAL_SHOTS = 4  # at most this many validation samples per class, as in every CLIP few-shot release


def few_shot_indices(
    labels: Sequence[int],
    pool: Sequence[int],
    shots: int,
    *,
    seed: int,
    replace: bool = False,
    class_names: Sequence[str] | None = None,
) -> list[int]:
    r"""Draw ``shots`` samples of each class so that larger draws contain the smaller ones.

    With $\pi_c$ a permutation of class $c$'s samples that depends on ``seed`` and $c$ only,
    $$ S_k = \bigcup_c \{\pi_c(1), \dots, \pi_c(k)\}, \qquad S_1 \subset S_2 \subset S_4 \dots $$
    so a curve over shots adds data instead of exchanging it, and no class disturbs another.

    Args:
        labels: Class number of every sample of the dataset.
        pool: Positions in ``labels`` that may be drawn.
        shots: How many per class, at least 0.
        seed: Chooses the permutations; nothing else does.
        replace: Fill up a class that has fewer than ``shots`` samples by repeating some of them.
        class_names: Names for messages; class numbers are used without them.

    Returns:
        Positions in ``labels``, class after class in label order. Every class that occurs in
        ``labels`` or in ``class_names`` contributes exactly ``shots``.

    Raises:
        ValueError: If ``shots`` is negative or a class has too few samples in the pool.

    Examples:
        >>> labels, pool = [0, 0, 0, 1, 1, 1], range(6)
        >>> two = few_shot_indices(labels, pool, 2, seed=1)
        >>> set(few_shot_indices(labels, pool, 1, seed=1)) < set(two)
        True

    Reference:
        The nested draw of ``google-research/big_vision``'s few-shot evaluator.
    """
    _check_shots(shots)
    names = class_names or [str(label) for label in range(max(labels, default=-1) + 1)]
    by_class: dict[int, list[int]] = {label: [] for label in range(len(names))}
    for index in pool:
        by_class[labels[index]].append(index)
    drawn: list[int] = []
    for label, members in by_class.items():
        if len(members) < shots:
            _check_enough(names[label], len(members), shots, replace)
        rng = _stream("nested", seed, label)
        rng.shuffle(members)
        missing = shots - len(members)
        drawn += members[:shots] + [rng.choice(members) for _ in range(missing)]
    return drawn


def draw_per_class(
    items: Sequence[int], labels: Sequence[int], shots: int, *, rng: Random, repeat: bool
) -> list[int]:
    """The one primitive that CoOp, SO, CLIP-LoRA and Tip-Adapter share, draw for draw.

    Classes are visited in the order in which ``items`` first shows them, not sorted. A class of
    $n$ samples gives `random.sample` where $n ≥ k$, otherwise $k$ choices with replacement
    (``repeat``) or all of it, which consumes no random numbers.

    Args:
        items: Positions in ``labels``, in the order of the split file.
        labels: Class number of every sample of the dataset.
        shots: $k$; below 1 the whole list is returned.
        rng: Private generator; ``Random(seed)`` yields the numbers of the releases.
        repeat: Whether a small class is filled up with repeats.

    Returns:
        Positions in ``labels``, class after class.

    Examples:
        >>> draw_per_class([0, 1, 2, 3], [0, 0, 1, 1], 1, rng=Random(1), repeat=False)
        [0, 2]

    Reference:
        ``generate_fewshot_dataset`` of Dassl, which CoOp and its successors build on.
    """
    if shots < 1:
        return list(items)
    groups: dict[int, list[int]] = {}
    for item in items:
        groups.setdefault(labels[item], []).append(item)
    drawn: list[int] = []
    for group in groups.values():
        if len(group) >= shots:
            drawn += rng.sample(group, shots)
        else:
            drawn += rng.choices(group, k=shots) if repeat else group
    return drawn


def held_out(
    labels: Sequence[int], share: float, *, seed: int, class_names: Sequence[str]
) -> tuple[list[int], list[int]]:
    """Put a fixed share of every class aside as the test set, for data without an official one.

    Args:
        labels: Class number of every sample.
        share: Share of each class to put aside, between 0 and 1; at least one sample is.
        seed: Chooses which.
        class_names: Class names in label order, for messages.

    Returns:
        Sorted positions of the pool and of the test set; they are disjoint.

    Raises:
        ValueError: If ``share`` is not between 0 and 1 or a class has fewer than two samples.

    Examples:
        >>> pool, test = held_out([0] * 10 + [1] * 5, 0.2, seed=0, class_names=("a", "b"))
        >>> len(pool), len(test)
        (12, 3)
    """
    if not 0 < share < 1:
        raise ValueError(f"test_share is {share}: it must lie between 0 and 1, such as 0.2")
    by_class: list[list[int]] = [[] for _ in class_names]
    for index, label in enumerate(labels):
        by_class[label].append(index)
    test: set[int] = set()
    for label, (name, members) in enumerate(zip(class_names, by_class, strict=True)):
        if len(members) < 2:
            raise ValueError(
                f"class '{name}' has {len(members)} sample(s): at least two are needed, "
                "one to learn from and one to test on"
            )
        size = min(max(1, round(share * len(members))), len(members) - 1)
        test.update(_stream("held-out", seed, label).sample(members, size))
    return [index for index in range(len(labels)) if index not in test], sorted(test)


def nested_val(labels: Sequence[int], val: Sequence[int], shots: int, seed: int) -> list[int]:
    """Draw a few validation samples per class, nested as well; a class that has fewer gives all.

    Args:
        labels: Class number of every sample of the dataset.
        val: Positions in ``labels`` that may be drawn.
        shots: Training samples per class; as many are drawn here, at most `VAL_SHOTS`.
        seed: Of the draw.

    Returns:
        Positions in ``labels``, class after class.

    Examples:
        >>> nested_val([0, 0, 1], [0, 1, 2], 1, seed=0)
        [1, 2]
    """
    groups: dict[int, list[int]] = {}
    for index in val:
        groups.setdefault(labels[index], []).append(index)
    drawn: list[int] = []
    for label in sorted(groups):
        _stream("nested-val", seed, label).shuffle(groups[label])
        drawn += groups[label][: min(shots, VAL_SHOTS)]
    return drawn


def _stream(purpose: str, seed: int, label: int) -> Random:
    """A generator of its own for each purpose, seed and class."""
    return Random(f"fewshot-data {purpose} seed {seed} class {label}")


def _check_shots(shots: int) -> None:
    """Refuse a negative number of shots."""
    if shots < 0:
        raise ValueError(f"shots is {shots}: give the number of samples per class, 0 or more")


def _check_enough(name: str, count: int, shots: int, replace: bool) -> None:
    """Say which class is too small and what would help."""
    if count == 0:
        raise ValueError(f"class '{name}' has no sample to draw from, but shots is {shots}")
    if not replace:
        raise ValueError(
            f"class '{name}' has {count} sample(s) to draw from, fewer than shots={shots}: "
            f"lower shots, add samples, or give replace=True (--replace) to repeat some of them "
            f"until there are {shots}"
        )
