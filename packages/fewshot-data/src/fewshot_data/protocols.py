"""Protocols by name: which training and validation samples each published harness draws."""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from random import Random

from fewshot_data.raw import RawDataset
from fewshot_data.sampling import VAL_SHOTS, draw_per_class, few_shot_indices, nested_val

__all__ = ["PROTOCOLS", "Draw", "draw"]

Drawn = tuple[list[int], list[int]]


@dataclass(frozen=True)
class Draw:
    """What a protocol is asked for.

    Args:
        raw: The dataset.
        shots: Training samples per class, at least 1.
        seed: Of the draw.
        replace: For ``nested``: fill small classes up; the others have their own rule.
    """

    raw: RawDataset
    shots: int
    seed: int
    replace: bool = False

    @property
    def val_shots(self) -> int:
        """Validation samples per class: as many as training samples, at most 4."""
        return min(self.shots, VAL_SHOTS)

    def repeated(self, pool: list[int], shots: int, rng: Random, repeat: bool) -> list[int]:
        """`draw_per_class` on this dataset."""
        return draw_per_class(pool, self.raw.labels, shots, rng=rng, repeat=repeat)


def draw(
    raw: RawDataset, protocol: str, shots: int, *, seed: int, replace: bool = False
) -> tuple[list[int], list[int]]:
    """Draw the training set and the validation set of a protocol.

    ========== ============================ ================ ============================
    protocol   order of the draws           classes < k      validation
    ========== ============================ ================ ============================
    nested     each class its own stream    refused          min(k, 4) per class
    coop       train, then validation       kept as they are min(k, 4) per class
    so         validation, then train       repeated         min(k, 4) per class
    clip-lora  as ``so``                    repeated         min(k, 4) per class
    tip-adapter train                       repeated         all of it
    official   none: the data fixes it      as they are      all of it
    ========== ============================ ================ ============================

    So ``coop`` and ``so`` train on different samples for the same seed, exactly as the releases
    do. ImageNet has no validation split: CoOp validates on the test images (nothing is drawn here),
    SO and CLIP-LoRA draw k + min(k, 4) of each training folder and take the first k to train on.

    Args:
        raw: The dataset.
        protocol: A key of `PROTOCOLS`.
        shots: Training samples per class; 0 draws nothing; -1, for ``official``, is all of the
            official training set.
        seed: Of the draw.
        replace: For ``nested``, fill small classes up by repeating some samples.

    Returns:
        Positions of the training and of the validation samples.

    Raises:
        ValueError: If the protocol is unknown or does not fit the data, ``shots`` is negative or a
            class is too small.

    Examples:
        >>> raw = RawDataset(list("abcd"), [0, 0, 1, 1], ("x", "y"), [0, 1, 2, 3], [])
        >>> draw(raw, "coop", 1, seed=1)
        ([0, 2], [])
    """
    if protocol not in PROTOCOLS:
        close = get_close_matches(str(protocol), PROTOCOLS, n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise ValueError(f"unknown protocol '{protocol}': {hint}known: {', '.join(PROTOCOLS)}")
    if shots < (-1 if protocol == "official" else 0):
        raise ValueError(f"shots is {shots}: give the number of samples per class, 0 or more")
    if shots == 0:
        return [], []
    return PROTOCOLS[protocol](Draw(raw, shots, seed, replace))


def _nested(asked: Draw) -> Drawn:
    """Larger draws contain smaller ones."""
    raw = asked.raw
    train = few_shot_indices(
        raw.labels, raw.train_indices, asked.shots,
        seed=asked.seed, replace=asked.replace, class_names=raw.class_names,
    )  # fmt: skip
    return train, nested_val(raw.labels, raw.val_indices, asked.shots, asked.seed)


def _coop(asked: Draw) -> Drawn:
    """Train first; small classes stay as they are."""
    rng, raw = Random(asked.seed), asked.raw
    train = asked.repeated(raw.train_indices, asked.shots, rng, False)
    if not raw.val_indices:
        return train, []
    return train, asked.repeated(raw.val_indices, asked.val_shots, rng, False)


def _so(asked: Draw) -> Drawn:
    """Validation first; small classes are filled up."""
    rng, raw = Random(asked.seed), asked.raw
    if raw.val_in_train:
        return _of_one_pool(asked, rng)
    val = asked.repeated(raw.val_indices, asked.val_shots, rng, True) if raw.val_indices else []
    return asked.repeated(raw.train_indices, asked.shots, rng, True), val


def _of_one_pool(asked: Draw, rng: Random) -> Drawn:
    """SO's ImageNet: one draw per class in label order, its first k to train on."""
    raw, drawn = asked.raw, ([], [])
    groups: dict[int, list[int]] = {label: [] for label in range(len(raw.class_names))}
    for index in raw.train_indices:
        groups[raw.labels[index]].append(index)
    for label, group in groups.items():
        wanted = asked.shots + asked.val_shots
        if len(group) < wanted:
            raise ValueError(
                f"class '{raw.class_names[label]}' has {len(group)} sample(s), but this protocol "
                f"draws {wanted} (shots={asked.shots} and {asked.val_shots} to validate on): "
                "lower shots, or use protocol 'coop'"
            )
        chosen = rng.sample(group, wanted)
        drawn[0].extend(chosen[: asked.shots])
        drawn[1].extend(chosen[asked.shots :])
    return drawn


def _tip_adapter(asked: Draw) -> Drawn:
    """Train only; small classes are filled up and all of the validation set is used."""
    raw = asked.raw
    train = asked.repeated(raw.train_indices, asked.shots, Random(asked.seed), True)
    return train, list(raw.val_indices)


def _official(asked: Draw) -> Drawn:
    """What the data itself fixes."""
    raw = asked.raw
    if raw.official is None:
        others = ", ".join(name for name in PROTOCOLS if name != "official")
        raise ValueError(
            f"protocol 'official' needs data that fixes its training set, and this does not "
            f"({raw.origin or 'no official draw'}): give one of {others}"
        )
    return raw.official(asked.shots, asked.seed), list(raw.val_indices)


PROTOCOLS: dict[str, Callable[[Draw], Drawn]] = {
    "nested": _nested,
    "coop": _coop,
    "so": _so,
    "clip-lora": _so,
    "tip-adapter": _tip_adapter,
    "official": _official,
}
"""Name of a protocol to what draws; each is compared with its release in the tests."""
