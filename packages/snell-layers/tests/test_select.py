"""The order statistic is exact: whatever the numbers, the hint and the size."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snell_layers import kernels
from snell_layers.select import (
    CHUNK,
    SMALL,
    from_the_nearer_end,
    kth_magnitude,
    rank_bracket,
)
from snell_layers.sparsify import order_statistic

COUNT = CHUNK + 12345  # several chunks, the last one short and no multiple of eight


def draw(kind, count=COUNT):
    rng = torch.Generator().manual_seed(1)
    normal = torch.randn(count, generator=rng)
    return {
        "normal": normal,
        "tiny": normal * 1e-30,
        "heavy": normal**7,
        "ties": (normal * 3).round(),
        "constant": torch.full((count,), -2.0),
        "mostly zero": normal * (normal > 2),
        "sorted": normal.sort().values,
        "double": normal.double(),
    }[kind]


KINDS = ("normal", "tiny", "heavy", "ties", "constant", "mostly zero", "sorted", "double")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999, 1.0])
def test_equals_a_sort(kind, share):
    values = draw(kind)
    rank = max(1, round(share * COUNT))
    expected = values.abs().sort().values[rank - 1]
    hints = (None, expected, expected * 1.01, expected * 5, expected * 0)
    for hint in hints:
        for compiled in (True, False):
            with kernels.use(compiled):
                assert torch.equal(kth_magnitude(values, rank, hint), expected), hint


@settings(max_examples=40, deadline=None)
@given(rank=st.integers(1, SMALL + 100), seed=st.integers(0, 2**20), digits=st.integers(0, 3))
def test_every_rank(rank, seed, digits):
    rng = torch.Generator().manual_seed(seed)
    values = torch.randn(SMALL + 100, generator=rng)
    values = values if digits == 0 else values.round(decimals=digits)  # ties
    assert torch.equal(kth_magnitude(values, rank), values.abs().sort().values[rank - 1])


def test_what_is_not_a_number_counts_last():
    values = draw("normal")
    values[::2] = math.nan
    whole = values[1::2].abs().sort().values
    assert torch.equal(kth_magnitude(values, len(whole) // 2), whole[len(whole) // 2 - 1])
    assert kth_magnitude(values, COUNT).isnan()


def test_each_matrix_has_its_own():
    w = draw("normal", 2 * 3 * SMALL).view(2, 3, 64, -1)
    found = order_statistic(w, 0.75)
    expected = w.abs().flatten(-2).sort(-1).values[..., math.ceil(0.75 * w[0, 0].numel()) - 1]
    assert torch.equal(found, expected)
    assert torch.equal(order_statistic(w, 0.75, hint=expected.roll(1)), expected)
    assert order_statistic(w, 0.0).eq(0).all()


def test_a_bracket_from_a_sample_is_open_where_the_sample_ends():
    sample = torch.arange(1.0, 11.0)
    assert rank_bracket(sample, 0.0)[0] == 0
    assert rank_bracket(sample, 1.0)[1] == math.inf


@pytest.mark.slow
def test_more_than_two_to_the_24_entries():
    """Where torch.quantile gave up until recently, and float32 cannot count any more."""
    w = torch.randn(4096, 4100, generator=torch.Generator().manual_seed(0))
    assert w.numel() > 2**24
    assert torch.equal(
        order_statistic(w, 0.9), torch.kthvalue(w.abs().flatten(), math.ceil(0.9 * w.numel()))[0]
    )


@given(
    st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, math.inf, math.nan]), min_size=1, max_size=12),
    st.data(),
)
def test_the_way_of_a_gpu_gives_the_same(numbers, data):
    k = data.draw(st.integers(1, len(numbers)))
    values = torch.tensor(numbers)
    expected = values.sort().values[k - 1]  # NaN last
    found = from_the_nearer_end(values, k)
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
