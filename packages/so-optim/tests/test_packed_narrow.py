"""Weights in bf16 and fp16 follow the fp32 trajectory although single updates are too small."""

import copy

import pytest
import torch

from so_optim import SO


def regression(dtype, lr, *, steps=200, seed=0):
    """Fit a linear map from minibatches; the data are the same for every dtype."""
    generator = torch.Generator().manual_seed(seed)
    start = (torch.randn(32, 32, generator=generator) * 0.05).bfloat16()
    target = start.float() + torch.randn(32, 32, generator=generator) * 0.02
    weight = start.to(dtype, copy=True).requires_grad_()
    optimizer = SO([weight], lr=lr, density_ratio=0.05, T=10, seed=seed)
    for _ in range(steps):
        batch = torch.randn(64, 32, generator=generator)
        error = batch @ (weight.detach().float() - target).T
        weight.grad = (error.T @ batch / 64).to(dtype)
        optimizer.step()
    return weight.detach().float() - start.float()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("lr", "most"), [(2e-4, 0.08), (2e-5, 0.25)])
def test_small_updates_are_not_lost(lr, most, seed):
    """Rounded after each step, 85 % of the way is lost at lr = 2e-5."""
    wide, narrow = (regression(dtype, lr, seed=seed) for dtype in (torch.float32, torch.bfloat16))
    assert (narrow - wide).norm() < most * wide.norm()


def test_a_hundred_updates_below_the_resolution_add_up():
    weight = torch.ones(1, 1, dtype=torch.bfloat16).requires_grad_()
    optimizer = SO([weight], lr=1e-4, density_ratio=1.0, T=10)  # 1 - 2^-8 is the next number
    for _ in range(100):
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    assert weight.item() == pytest.approx(0.99, abs=2**-9)


def test_weights_hold_the_rounded_values(make_weights, set_grads):
    weights = make_weights((30, 20), dtype=torch.bfloat16)
    optimizer = SO(weights, lr=1e-3, density_ratio=0.05, T=3)
    for _ in range(8):
        set_grads(weights)
        optimizer.step()
        state, flat = optimizer.state[weights[0]], weights[0].detach().flatten()
        for name in ("kept", "support"):
            assert torch.equal(flat[state[name]], state[name + "_value"].bfloat16())


def test_a_weight_that_somebody_else_changed_wins(make_weights, set_grads):
    """Loading other weights between steps must not be undone by remembered values."""
    weights = make_weights((30, 20), dtype=torch.bfloat16)
    optimizer = SO(weights, lr=1e-3, density_ratio=0.05, T=5)
    for number in range(7):
        set_grads(weights)
        optimizer.step()
        if number in (2, 4):
            with torch.no_grad():
                weights[0].fill_(7.0)
            frozen = copy.deepcopy(weights[0].detach())
    moved = (weights[0].detach() - frozen).abs()
    assert moved.max() < 0.1
