"""The property the method is named for: how many entries survive, and which."""

import math
from decimal import Decimal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snell_layers import SnellRule, snell_delta
from snell_layers.kernel import KERNELS
from snell_layers.sparsify import SPARSIFIERS, order_statistic, removed_entries

SPARSITIES = (0.01, 0.07, 0.1, 0.3, 0.5, 0.74, 0.9, 0.99, 0.995)


@pytest.mark.parametrize("sparsity", SPARSITIES)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("sparsifier", ["released", "paper", "hard"])
def test_exactly_mn_minus_ceil_s_mn_entries_survive(make_factors, kernel, sparsifier, sparsity):
    rule = SnellRule(8, sparsity, kernel, sparsifier)
    for m, n in ((20, 30), (17, 13), (32, 32)):
        delta, _ = snell_delta(*make_factors(rule, m, n, scale=0.3), rule)
        expected = m * n - math.ceil(Decimal(str(sparsity)) * m * n)
        assert delta.count_nonzero() == expected


def test_every_piece_of_a_fused_weight_has_its_own_threshold(make_factors):
    rule = SnellRule(8, 0.9)
    inner, outer = make_factors(rule, 10, 20, pieces=3)
    with torch.no_grad():
        outer[1] *= 100  # one threshold over all rows would keep nothing of the other two pieces
    delta, threshold = snell_delta(inner, outer, rule)
    assert [piece.count_nonzero().item() for piece in delta.chunk(3)] == [20, 20, 20]
    assert threshold.shape == (3,)


@pytest.mark.parametrize(("sparsity", "more"), [(0.8, 0), (0.83, 1)])
def test_the_released_quantile_keeps_the_same_entries_or_one_more(make_factors, sparsity, more):
    """Its interpolation counts mn - 1 gaps: one more if the fraction of s·mn is in (0, s)."""
    rule = SnellRule(8, sparsity)
    inner, outer = make_factors(rule, 25, 31)
    w = rule.matrix(inner.detach(), outer.detach())[0]
    delta, threshold = snell_delta(inner, outer, rule)
    released = w.abs() > torch.quantile(w.abs(), sparsity)
    assert torch.equal(delta != 0, w.abs() > threshold)
    assert not ((delta != 0) & ~released).any()
    assert (released & (delta == 0)).sum() == more


def test_survivors_are_the_largest(make_factors):
    rule = SnellRule(8, 0.83)
    inner, outer = make_factors(rule, 25, 31)
    w = rule.matrix(inner.detach(), outer.detach())[0]
    delta, _ = snell_delta(inner, outer, rule)
    assert w[delta == 0].abs().max() <= w[delta != 0].abs().min()


def test_ties_at_the_threshold_are_all_dropped():
    w = torch.tensor([[1.0, 2.0, 2.0], [2.0, -2.0, 3.0]])
    threshold = order_statistic(w[None], 0.5)
    kept = SPARSIFIERS["hard"].value_(w.clone(), threshold[0])
    assert threshold.item() == 2
    assert kept.tolist() == [[0, 0, 0], [0, 0, 3]]


@given(entries=st.integers(1, 10**7), removed=st.integers(0, 10**7))
@settings(max_examples=200, deadline=None)
def test_a_sparsity_made_from_counts_gives_these_counts_back(entries, removed):
    removed = min(removed, entries - 1)
    assert removed_entries(removed / entries, entries) == removed
    assert removed_entries(1 - (entries - removed) / entries, entries) == removed


def test_a_decimal_sparsity_means_its_decimals():
    assert math.ceil(0.07 * 100) == 8  # what floating point makes of it
    assert removed_entries(0.07, 100) == 7


@pytest.mark.parametrize("sparsifier", SPARSIFIERS)
def test_sparsity_zero_is_klora(make_factors, sparsifier):
    """The update itself, not its square: what the release trains at s = 0."""
    rule = SnellRule(8, 0.0, sparsifier=sparsifier)
    inner, outer = make_factors(rule, 9, 7)
    delta, _ = snell_delta(inner, outer, rule)
    assert torch.equal(delta, rule.matrix(inner.detach(), outer.detach())[0])


def test_values_on_survivors(make_factors):
    rules = {name: SnellRule(8, 0.5, sparsifier=name) for name in ("released", "paper", "hard")}
    inner, outer = make_factors(rules["hard"], 9, 8)
    w, threshold = snell_delta(inner, outer, rules["hard"])
    survivors = w != 0
    released, _ = snell_delta(inner, outer, rules["released"])
    paper, _ = snell_delta(inner, outer, rules["paper"])
    torch.testing.assert_close(released, w.sign() * w.square())
    expected = w.sign() * (w.square() - threshold * w.abs())
    torch.testing.assert_close(paper, torch.where(survivors, expected, 0.0))


def test_the_update_has_a_high_rank(make_factors):
    """Every other kernel has full rank where the linear one has rank r."""
    n = 64
    ranks = {}
    for kernel in KERNELS:
        rule = SnellRule(8, 0.0, kernel)
        delta, _ = snell_delta(*make_factors(rule, n, n, scale=0.5), rule)
        ranks[kernel] = torch.linalg.matrix_rank(delta).item()
    assert ranks == dict.fromkeys(KERNELS, n) | {"linear": 8}
