"""How many entries, and which."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from so_optim import SO, support_size
from so_optim.support import draw_support, support_stream


@pytest.mark.parametrize(
    ("n", "density", "k"),
    [
        (20_000, 1 - 0.99995, 1),  # the release: 0
        (2_000_000, 1 - 0.99995, 100),  # the release: 99
        (2_000_000, 1 - 0.9995, 1_000),  # the release: 999
        (2_000_000, 5e-5, 100),
        (2_000_000, 5e-4, 1_000),
        (768 * 768, 5e-4, 294),
        (2304 * 768, 5e-4, 884),
        (3072 * 768, 5e-4, 1_179),
        (768 * 768, 5e-5, 29),
        (3072 * 768, 5e-5, 117),
        (2 * 768, 5e-5, 1),  # the release freezes BERT's token types
        (1, 1e-9, 1),
        (7, 1.0, 7),
        (10, 0.3, 3),
        (10, 0.1 + 0.2, 3),
        (10, 0.29, 2),
        (10**10, 1 - 0.99995, 500_000),
    ],
)
def test_support_size(n, density, k):
    assert support_size(n, density) == k


@settings(max_examples=200, deadline=None)
@given(n=st.integers(1, 10**9), data=st.data())
def test_support_size_recovers_a_whole_number(n, data):
    wanted = data.draw(st.integers(1, n))
    assert support_size(n, wanted / n) == wanted
    assert support_size(n, 1 - (1 - wanted / n)) == wanted


@pytest.mark.parametrize("density", [0.0, -0.1, 1.5, float("nan"), float("inf")])
def test_support_size_refuses_a_density(density):
    with pytest.raises(ValueError, match=r"density must be in \(0, 1\] but is"):
        support_size(10, density)


def test_support_size_refuses_an_empty_weight():
    with pytest.raises(ValueError, match="n must be at least 1 but is 0"):
        support_size(0, 0.5)


@settings(max_examples=100, deadline=None)
@given(n=st.integers(0, 300), data=st.data())
def test_draws_are_distinct_sorted_and_in_range(n, data):
    k = data.draw(st.integers(0, n))
    support = draw_support(n, k, torch.Generator().manual_seed(n))
    assert support.dtype == torch.int64
    positions = support.tolist()
    assert positions == sorted(set(positions))
    assert len(positions) == k
    assert all(0 <= p < n for p in positions)


@pytest.mark.parametrize("k", [3, 6, 10, 15, 19])
def test_draws_are_uniform(k):
    n, trials = 20, 4000
    generator = torch.Generator().manual_seed(0)
    counts = torch.zeros(n)
    pairs = torch.zeros(n, n)
    for _ in range(trials):
        mask = torch.zeros(n)
        mask[draw_support(n, k, generator)] = 1
        counts += mask
        pairs += mask[:, None] * mask[None, :]
    one, two = k / n, k * (k - 1) / (n * (n - 1))
    five_sigma = 5 * (trials * one * (1 - one)) ** 0.5
    assert (counts - trials * one).abs().max() < five_sigma
    off_diagonal = pairs[~torch.eye(n, dtype=torch.bool)]
    assert (off_diagonal - trials * two).abs().max() < 5 * (trials * two * (1 - two)) ** 0.5


def test_draw_costs_k_and_not_n():
    support = draw_support(10**15, 1000, torch.Generator().manual_seed(0))
    assert len(support) == 1000
    assert support.max() > 10**14  # it would take 8 PB to list all positions


def test_draw_refuses_more_than_there_is():
    with pytest.raises(ValueError, match="k must be between 0 and n=3 but is 4"):
        draw_support(3, 4, torch.Generator())


def test_streams_differ_by_seed_parameter_and_draw():
    keys = [(s, p, d) for s in (0, 1, -7, 2**70) for p in (0, 1, 11) for d in (0, 1, 11)]
    draws = {tuple(draw_support(10**6, 4, support_stream(*key)).tolist()) for key in keys}
    assert len(draws) == len(keys)


def supports_of_a_run(weights, steps, **settings):
    optimizer = SO(weights, density_ratio=0.05, T=3, **settings)
    seen = []
    for _ in range(steps):
        for weight in weights:
            weight.grad = torch.ones_like(weight)
        optimizer.step()
        seen.append([optimizer.state[w]["support"].tolist() for w in weights])
    return seen


def test_a_support_lives_exactly_T_steps(make_weights):
    seen = [step[0] for step in supports_of_a_run(make_weights((20, 20)), 12)]
    changes = [i for i in range(1, 12) if seen[i] != seen[i - 1]]
    assert changes == [3, 6, 9]


def test_a_seed_means_the_same_supports_whatever_the_global_state(make_weights):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        before = torch.get_rng_state()
        first = supports_of_a_run(make_weights((20, 20), (9, 9)), 8, seed=4)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(2)
        assert supports_of_a_run(make_weights((20, 20), (9, 9)), 8, seed=4) == first
    assert supports_of_a_run(make_weights((20, 20), (9, 9)), 8, seed=5) != first


def test_supports_do_not_depend_on_dtype(make_weights):
    runs = [
        supports_of_a_run(make_weights((20, 20), dtype=dtype), 4)
        for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    ]
    assert runs[0] == runs[1] == runs[2] == runs[3]


def test_a_parameter_without_gradient_does_not_move_the_supports_of_others(make_weights):
    both = make_weights((20, 20), (20, 20))
    optimizer = SO(both, density_ratio=0.05)
    both[1].grad = torch.ones_like(both[1])
    optimizer.step()
    expected = supports_of_a_run(make_weights((20, 20), (20, 20)), 1)[0][1]
    assert optimizer.state[both[1]]["support"].tolist() == expected
    assert both[0] not in optimizer.state
