"""The fast optimizer equals its slow twin in float64, over hundreds of steps."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from so_optim import SO
from so_optim.reference import SOReference
from so_optim.support import draw_support, support_stream

TIGHT = 1e-12


@pytest.mark.parametrize("bias_correction", ["global", "per_entry"])
@pytest.mark.parametrize("prune", ["after_update", "before_update"])
@pytest.mark.parametrize("decoupled", [False, True], ids=["coupled", "decoupled"])
def test_equals_reference_for_250_steps(twins, prune, bias_correction, decoupled):
    worst = twins(
        [(12, 10), (5, 30), (7,), ()],
        steps=250,
        lr=1e-2,
        weight_decay=0.1,
        density_ratio=0.1,
        T=7,
        prune=prune,
        bias_correction=bias_correction,
        decoupled_weight_decay=decoupled,
    )
    assert worst < TIGHT


@pytest.mark.parametrize("T", [1, 3, 10])
@pytest.mark.parametrize("density", [1e-3, 0.03, 0.4, 0.7, 1.0])
def test_equals_reference_at_every_density_and_life(twins, density, T):
    assert twins([(9, 11), (20, 6)], 60, lr=1e-2, density_ratio=density, T=T) < TIGHT


def test_equals_reference_with_different_groups(twins):
    groups = [
        {"lr": 1e-3, "density_ratio": 0.2, "T": 2},
        {"dense": True, "weight_decay": 0.5},
        {"dense": False, "betas": (0.4, 0.99), "maximize": True},
        {"dense": False, "eps": 1e-3, "prune": "before_update"},
        {"bias_correction": "per_entry", "weight_decay": 0.01, "decoupled_weight_decay": True},
    ]
    shapes = [(8, 9), (8, 9), (31,), (3, 4, 2, 5), (13, 6)]
    assert twins(shapes, 200, groups=groups, lr=1e-2, density_ratio=0.05, T=5) < TIGHT


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    shape=st.lists(st.integers(1, 6), min_size=0, max_size=4),
    density=st.floats(1e-3, 1.0),
    T=st.integers(1, 6),
    beta1=st.floats(0.0, 0.99),
    decay=st.sampled_from([0.0, 0.1]),
    prune=st.sampled_from(["after_update", "before_update"]),
    bias_correction=st.sampled_from(["global", "per_entry"]),
    seed=st.integers(0, 2**40),
)
def test_equals_reference_whatever_the_settings(
    twins, shape, density, T, beta1, decay, prune, bias_correction, seed
):
    worst = twins(
        [tuple(shape)],
        15,
        lr=1e-2,
        betas=(beta1, 0.99),
        weight_decay=decay,
        density_ratio=density,
        T=T,
        dense=False,
        prune=prune,
        bias_correction=bias_correction,
        seed=seed,
    )
    assert worst < TIGHT


class Scripted(SO):
    """SO on supports that a test wrote down: draw 0, 1, 2, ... of every weight."""

    script = ((0, 1, 2), (2, 3, 5), (0, 5, 7), (1, 4, 6), (0, 1, 2))

    def _draw(self, seed, number, draw, n, k):
        return torch.tensor(self.script[draw])


@pytest.mark.parametrize("prune", ["after_update", "before_update"])
def test_equals_reference_on_injected_supports(make_weights, set_grads, prune):
    fast, slow = make_weights((2, 4)), make_weights((2, 4))
    with torch.no_grad():
        slow[0].copy_(fast[0])
    optimizer = Scripted(fast, lr=0.1, density_ratio=3 / 8, T=2, prune=prune)
    reference = SOReference(
        slow,
        lr=0.1,
        density_ratio=3 / 8,
        T=2,
        prune=prune,
        supports=lambda _, draw, n, k: Scripted.script[draw],
    )
    for _ in range(10):
        set_grads(fast, slow)
        optimizer.step()
        reference.step()
        assert set(optimizer.state[fast[0]]["kept"].tolist()) == set(reference.memories[0].K)
        torch.testing.assert_close(fast, slow, rtol=0, atol=1e-13)


def test_two_steps_by_hand():
    """One row of four, k = 2: every number below was worked out from the six points on paper."""

    class Two(SO):
        def _draw(self, seed, number, draw, n, k):
            return torch.tensor([[0, 1], [1, 3]][draw])

    weight = torch.zeros(1, 4, dtype=torch.float64).requires_grad_()
    optimizer = Two([weight], lr=1.0, betas=(0.5, 0.75), eps=0.0, density_ratio=0.5, T=1)
    weight.grad = torch.tensor([[4.0, -1.0, 9.0, 9.0]], dtype=torch.float64)
    optimizer.step()  # m = (2, -.5), v = (4, .25), corrected (4, -1) and (16, 1): sign steps
    torch.testing.assert_close(weight.detach(), weight.new_tensor([[-1.0, 1.0, 0.0, 0.0]]))

    weight.grad = torch.tensor([[9.0, -1.0, 9.0, 8.0]], dtype=torch.float64)
    optimizer.step()  # U = {0, 1, 3}: 0 coasts, 1 goes on, 3 is fresh but corrected by t = 2
    m = torch.tensor([1.0, -0.75, 4.0], dtype=torch.float64) / 0.75
    v = torch.tensor([3.0, 0.4375, 16.0], dtype=torch.float64) / 0.4375
    change = m / v.sqrt()
    expected = [-1.0 - change[0].item(), 1.0 - change[1].item(), 0.0, -change[2].item()]
    torch.testing.assert_close(weight.detach(), weight.new_tensor([expected]))
    assert optimizer.state[weight]["kept"].tolist() == [0, 3]  # |m| = 1 and 4 beat 0.75


@pytest.mark.parametrize("T", [1, 3])
def test_equal_moments_keep_who_coasts_then_the_lower_position(make_weights, T):
    """With zero gradients all scores are equal, and the twins agree on who survives."""
    (weight,) = make_weights((4, 8))
    twin = weight.detach().clone().requires_grad_()
    optimizer = SO([weight], density_ratio=0.25, T=T)
    reference = SOReference(
        [twin],
        density_ratio=0.25,
        T=T,
        supports=lambda i, draw, n, k: draw_support(n, k, support_stream(0, i, draw)),
    )
    kept = set()
    for _ in range(12):
        weight.grad, twin.grad = torch.zeros_like(weight), torch.zeros_like(twin)
        optimizer.step()
        reference.step()
        support = set(optimizer.state[weight]["support"].tolist())
        expected = (sorted(kept - support) + sorted(support))[:8]
        kept = set(optimizer.state[weight]["kept"].tolist())
        assert kept == set(expected) == set(reference.memories[0].K)


def test_reference_draws_its_own_supports():
    weight = torch.zeros(10, 10).requires_grad_()
    reference = SOReference([weight], density_ratio=1 - 0.93, T=3, seed=1)
    lives = []
    for _ in range(9):
        weight.grad = torch.ones_like(weight)
        reference.step()
        lives.append(tuple(reference.memories[0].S))
    assert len(set(lives)) == 3
    assert [lives.count(s) for s in dict.fromkeys(lives)] == [3, 3, 3]
    assert len(set(lives[0])) == 7


def test_per_entry_correction_gives_a_fresh_entry_a_full_first_step(make_weights):
    """The first change of an entry is lr, whenever it enters."""
    (weight,) = make_weights((10, 10))
    optimizer = SO([weight], lr=0.1, density_ratio=0.05, T=1, bias_correction="per_entry", eps=0)
    touched = torch.zeros_like(weight, dtype=torch.bool)
    for _ in range(8):
        before = weight.detach().clone()
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        change = before - weight.detach()
        fresh = (change != 0) & ~touched
        torch.testing.assert_close(change[fresh], torch.full_like(change[fresh], 0.1))
        touched |= fresh


def test_global_correction_follows_the_published_curve(make_weights):
    """A fresh entry at step t moves lr (1-b1)/(1-b1^t) sqrt((1-b2^t)/(1-b2)): 0.48 lr at t = 10."""
    (weight,) = make_weights((40, 40))
    optimizer = SO([weight], lr=1.0, density_ratio=0.01, T=1, eps=0)
    touched = torch.zeros_like(weight, dtype=torch.bool)
    for t in range(1, 11):
        before = weight.detach().clone()
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        change = before - weight.detach()
        fresh = (change != 0) & ~touched
        expected = 0.1 / (1 - 0.9**t) * math.sqrt((1 - 0.999**t) / 0.001)
        torch.testing.assert_close(change[fresh], torch.full_like(change[fresh], expected))
        touched |= fresh
    assert expected == pytest.approx(0.484, abs=1e-3)
