"""Which samples are drawn: nesting, balance, seeds, repeats, and the numbers of the releases."""

from collections import Counter
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot_data.protocols import PROTOCOLS, draw
from fewshot_data.raw import RawDataset
from fewshot_data.sampling import draw_per_class, few_shot_indices, held_out

LABELS = [index % 5 for index in range(100)]


def made(labels, pool, val=(), **more):
    """A dataset without contents."""
    names = tuple(map(str, range(max(labels) + 1)))
    return RawDataset(labels, list(labels), names, list(pool), [], list(val), **more)


@st.composite
def pools(draw: st.DrawFn) -> tuple[list[int], list[int], int]:
    """Labels in any order, a pool that holds some of each class, and the smallest class size."""
    sizes = draw(st.lists(st.integers(1, 8), min_size=1, max_size=6))
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    order = draw(st.permutations(range(len(labels))))
    return [labels[i] for i in order], draw(st.permutations(range(len(labels)))), min(sizes)


@given(pools(), st.integers(0, 2**40))
def test_larger_draws_contain_smaller_ones_and_classes_are_balanced(case, seed):
    labels, pool, smallest = case
    previous: set[int] = set()
    for shots in range(smallest + 1):
        drawn = few_shot_indices(labels, pool, shots, seed=seed)
        assert previous <= set(drawn) <= set(pool)
        assert len(set(drawn)) == len(drawn)
        assert Counter(labels[i] for i in drawn) == {c: shots for c in set(labels) if shots}
        previous = set(drawn)


@given(pools(), st.integers(0, 2**40), st.integers(1, 20))
def test_repeats_fill_every_class_and_still_nest(case, seed, shots):
    labels, pool, _ = case
    drawn = few_shot_indices(labels, pool, shots, seed=seed, replace=True)
    more = few_shot_indices(labels, pool, shots + 3, seed=seed, replace=True)
    assert Counter(labels[i] for i in drawn) == dict.fromkeys(set(labels), shots)
    assert not Counter(drawn) - Counter(more)
    for label, size in Counter(labels).items():
        assert len({i for i in drawn if labels[i] == label}) == min(size, shots)


def test_a_seed_fixes_the_draw_and_seeds_differ():
    draws = [few_shot_indices(LABELS, range(100), 4, seed=seed) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_the_draw_is_the_same_in_every_release():
    assert few_shot_indices(LABELS, range(100), 2, seed=1) == [
        *(90, 60, 1, 46, 77, 67, 88, 83, 49, 24)
    ]


def test_a_class_is_drawn_alike_whatever_the_other_classes_are():
    alone = few_shot_indices([0] * 20, range(20), 3, seed=5)
    assert few_shot_indices([0] * 20 + [1] * 9, range(29), 3, seed=5)[:3] == alone


@pytest.mark.parametrize("protocol", [name for name in PROTOCOLS if name != "official"])
def test_global_generators_are_left_alone(protocol):
    import random

    random.seed(0)
    before = random.getstate()
    draw(made(LABELS, range(80), range(80, 100)), protocol, 4, seed=1)
    assert random.getstate() == before


def test_a_class_that_is_too_small_is_named_with_its_size_and_the_way_out():
    with pytest.raises(ValueError, match=r"class 'owl' has 2 sample.*shots=4.*replace=True.*"):
        few_shot_indices([0] * 9 + [1] * 2, range(11), 4, seed=0, class_names=("cat", "owl"))


@pytest.mark.parametrize("replace", [False, True])
def test_a_class_without_any_sample_cannot_be_filled_up(replace):
    with pytest.raises(ValueError, match="class 'owl' has no sample"):
        few_shot_indices([0], [0], 1, seed=0, replace=replace, class_names=("cat", "owl"))


def test_negative_shots_and_unknown_protocols_are_refused():
    with pytest.raises(ValueError, match="shots is -1"):
        few_shot_indices(LABELS, range(100), -1, seed=0)
    with pytest.raises(ValueError, match="shots is -1"):
        draw(made(LABELS, range(100)), "coop", -1, seed=0)
    with pytest.raises(ValueError, match="unknown protocol 'nestde': did you mean 'nested'"):
        draw(made(LABELS, range(100)), "nestde", 1, seed=0)


# The releases' own numbers: train classes of 6, 5, 3 samples, validation of 3, 4, 2, seed 1.
TRAIN_SIZES, VAL_SIZES = (6, 5, 3), (3, 4, 2)
RELEASES = {
    ("coop", 1): ([[1], [4], [0]], [[1], [0], [1]]),
    ("coop", 2): ([[1, 4], [0, 2], [0, 1]], [[1, 2], [3, 0], [0, 1]]),
    ("coop", 4): ([[1, 4, 0, 5], [0, 3, 1, 2], [0, 1, 2]], [[0, 1, 2], [3, 0, 2, 1], [0, 1]]),
    ("so", 1): ([[0], [3], [1]], [[0], [0], [1]]),
    ("so", 2): ([[3, 5], [1, 0], [1, 0]], [[0, 2], [2, 0], [1, 0]]),
    ("so", 4): (
        [[3, 4, 0, 2], [3, 2, 4, 0], [1, 0, 0, 0]],
        [[0, 2, 2, 0], [3, 1, 2, 0], [1, 0, 0, 1]],
    ),
}


@pytest.mark.parametrize(("protocol", "shots"), RELEASES)
def test_protocols_draw_what_the_releases_draw(protocol, shots):
    labels = [
        label
        for sizes in (TRAIN_SIZES, VAL_SIZES)
        for label in (0, 1, 2)
        for _ in range(sizes[label])
    ]
    places = [place for size in TRAIN_SIZES + VAL_SIZES for place in range(size)]
    count = sum(TRAIN_SIZES)
    raw = made(labels, range(count), range(count, len(labels)))
    train, val = draw(raw, protocol, shots, seed=1)
    if protocol == "so":
        assert draw(raw, "clip-lora", shots, seed=1) == (train, val)
    wanted_train, wanted_val = RELEASES[protocol, shots]
    for drawn, wanted in ((train, wanted_train), (val, wanted_val)):
        assert [places[i] for i in drawn] == [place for group in wanted for place in group]


def test_so_takes_validation_shots_of_imagenet_from_the_training_images():
    sizes = (10, 8, 12)
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    places = [place for size in sizes for place in range(size)]
    raw = made(labels, range(30), val_in_train=True)
    drawn = draw(raw, "so", 2, seed=1)
    assert [[places[i] for i in part] for part in drawn] == [
        [2, 1, 7, 6, 10, 6],
        [4, 0, 3, 5, 3, 1],
    ]
    assert draw(raw, "coop", 2, seed=1)[1] == []  # it validates on the test images
    with pytest.raises(ValueError, match=r"class '0' has 10 .* draws 12"):
        draw(raw, "so", 8, seed=1)


def test_tip_adapter_draws_as_so_but_train_only_and_validates_on_all():
    raw = made(LABELS, range(80), range(80, 100))
    train, val = draw(raw, "tip-adapter", 4, seed=1)
    assert train == draw_per_class(range(80), LABELS, 4, rng=Random(1), repeat=True)
    assert val == list(range(80, 100))


def test_official_needs_data_that_fixes_something():
    with pytest.raises(ValueError, match="'official' needs data that fixes its training set"):
        draw(made(LABELS, range(80)), "official", -1, seed=1)
    fixed = made(LABELS, range(80), official=lambda shots, seed: [shots + seed])
    assert draw(fixed, "official", 2, seed=3)[0] == [5]


def test_the_mersenne_twister_is_the_one_the_releases_used():
    assert Random(1).sample(range(1000), 5) == [137, 582, 867, 821, 782]


def test_release_draws_visit_classes_as_first_seen_not_sorted():
    labels = [0] * 6 + [1] * 5 + [2] * 3
    shown = sorted(range(14), key=lambda i: [2, 0, 1].index(labels[i]))
    drawn = draw_per_class(shown, labels, 2, rng=Random(1), repeat=False)
    assert [labels[i] for i in drawn] == [2, 2, 0, 0, 1, 1]
    assert set(drawn) != set(draw_per_class(range(14), labels, 2, rng=Random(1), repeat=False))


def test_validation_is_at_most_four_per_class_and_nests():
    labels = [0] * 30 + [1] * 30
    pool, val = [*range(20), *range(30, 50)], [*range(20, 30), *range(50, 60)]
    drawn = [draw(made(labels, pool, val), "nested", k, seed=3)[1] for k in (1, 2, 4, 16)]
    assert [len(indices) for indices in drawn] == [2, 4, 8, 8]
    assert all(set(few) <= set(more) for few, more in pairwise(drawn))
    assert set(drawn[-1]) <= set(val)


@given(
    st.lists(st.integers(2, 12), min_size=1, max_size=5),
    st.floats(0.01, 0.99),
    st.integers(0, 2**40),
)
def test_held_out_takes_a_share_of_every_class(sizes, share, seed):
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    names = [str(label) for label in range(len(sizes))]
    pool, test = held_out(labels, share, seed=seed, class_names=names)
    assert sorted(pool + test) == list(range(len(labels)))
    for label, size in enumerate(sizes):
        taken = sum(labels[i] == label for i in test)
        assert taken == min(max(1, round(share * size)), size - 1)


def test_held_out_refuses_what_cannot_be_split():
    with pytest.raises(ValueError, match=r"class 'b' has 1 sample\(s\): at least two"):
        held_out([0, 0, 1], 0.2, seed=0, class_names=("a", "b"))
    with pytest.raises(ValueError, match=r"test_share is 1\.0"):
        held_out([0, 0], 1.0, seed=0, class_names=("a",))
