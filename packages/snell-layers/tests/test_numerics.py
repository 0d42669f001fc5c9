"""Offsets, coincident points, half precision: where distances and small updates get lost."""

import pytest
import torch
from torch import nn

from snell_layers import SnellLinear, SnellRule, snell_delta, snell_linear

DISTANCES = ["piecewise_linear", "mixed", "rbf"]


@pytest.mark.parametrize(
    ("kernel", "spread"), [("piecewise_linear", 0.01), ("mixed", 0.01), ("rbf", 0.3)]
)
def test_a_common_offset_costs_no_accuracy(make_factors, reference_update, kernel, spread):
    """The expanded form of the distance would be off by 0.8 % at a spread of 0.01."""
    rule = SnellRule(8, 0.0, kernel)
    inner, outer = make_factors(rule, 30, 40, scale=spread)
    with torch.no_grad():
        inner += 100 * spread
        outer += 100 * spread
    inner, outer = (f.detach().float().requires_grad_() for f in (inner, outer))
    exact_factors = [f.detach().double().requires_grad_() for f in (inner, outer)]
    x = torch.eye(40, device=inner.device)
    y, _ = snell_linear(x, inner, outer, rule)
    exact = reference_update(*exact_factors, rule)
    upstream = torch.randn(40, 30, generator=torch.Generator().manual_seed(0)).to(x.device)
    ours = torch.autograd.grad(y, (inner, outer), upstream)
    theirs = torch.autograd.grad(exact.T, exact_factors, upstream.double())
    assert (y.double() - exact.T).norm() / exact.norm() < 1e-5
    for a, b in zip(ours, theirs, strict=True):
        assert (a.double() - b).norm() / b.norm() < 1e-5


@pytest.mark.parametrize("kernel", DISTANCES)
def test_the_update_does_not_change_when_both_sides_move_together(make_factors, kernel):
    rule = SnellRule(8, 0.5, kernel, sparsifier="hard")
    inner, outer = make_factors(rule, 12, 15, scale=0.5)
    here, _ = snell_delta(inner, outer, rule)
    there, _ = snell_delta(inner + 8, outer + 8, rule)
    torch.testing.assert_close(here, there)


@pytest.mark.parametrize("sparsity", [0.0, 0.5])
@pytest.mark.parametrize("kernel", DISTANCES)
def test_coincident_points_give_zero_distance_and_finite_gradients(
    make_factors, reference_update, kernel, sparsity
):
    rule = SnellRule(8, sparsity, kernel, sparsifier="hard")
    inner, outer = make_factors(rule, 6, 5)
    with torch.no_grad():
        outer[0, :, :3] = inner[0, :, :3]  # three rows coincide with three columns in both heads
        outer[0, 0, 3] = inner[0, 0, 3]  # and one in the first head alone
    x = torch.eye(5, dtype=inner.dtype, device=inner.device)
    y, _ = snell_linear(x, inner, outer, rule)
    if kernel != "mixed":  # whose softmax adds to every entry
        assert y.diagonal()[:3].eq(0).all()
    ours = torch.autograd.grad(y.sum(), (inner, outer))
    theirs = torch.autograd.grad(reference_update(inner, outer, rule).sum(), (inner, outer))
    for a, b in zip(ours, theirs, strict=True):
        assert a.isfinite().all()
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def relative_error_of_the_branch(layer, base, x):
    """How much of x·ΔWᵀ is lost, measured against float64 and beyond the rounding of the output."""
    delta = layer.delta_weight().double()
    exact = x.double() @ delta.T
    got = layer(x).double() - base(x).double()
    return ((got - exact).norm() / exact.norm()).item()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [1e-3, 1e-6])
def test_small_updates_survive_a_half_precision_base(device, rng, dtype, size):
    base = nn.Linear(64, 48, bias=False).to(device, dtype)
    base.weight.data.zero_()  # the output is then the branch alone, not its rounding against y
    layer = SnellLinear(base, 8, 0.0)
    assert layer.factors.inner.dtype == torch.float32
    with torch.no_grad():
        scale = size / layer.delta_weight().std()
        layer.factors.inner.mul_(scale)
        layer.factors.outer.mul_(scale)
    x = torch.randn(32, 64, generator=rng).to(device, dtype)
    assert relative_error_of_the_branch(layer, base, x) < 0.01


def test_a_merge_into_bf16_would_have_lost_the_same_update(device, rng):
    """The reason for the second operand: `W + ΔW` in bf16 keeps nothing of an update of 1e-6."""
    weight = (0.03 * torch.randn(48, 64, generator=rng)).to(device, torch.bfloat16)
    delta = 1e-6 * torch.randn(48, 64, generator=rng).to(device)
    merged = (weight.float() + delta).to(torch.bfloat16)
    assert (merged.float() - weight.float() - delta).norm() / delta.norm() > 0.9


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_keeps_the_update_and_its_gradients(device, rng, dtype):
    base = nn.Linear(64, 48).to(device)
    layer = SnellLinear(base, 8, 0.9)
    x = torch.randn(32, 64, generator=rng).to(device)
    exact = layer(x)
    exact.square().sum().backward()
    wanted = [f.grad.clone() for f in layer.factors.parameters()]
    layer.zero_grad()
    with torch.autocast(device.type, dtype=dtype):
        y = layer(x)
    assert y.dtype == dtype
    y.float().square().sum().backward()
    torch.testing.assert_close(y.float(), exact, rtol=0.05, atol=0.05)
    for factor, grad in zip(layer.factors.parameters(), wanted, strict=True):
        assert factor.grad.dtype == torch.float32
        assert (factor.grad - grad).norm() / grad.norm() < 0.05
    with torch.autocast(device.type, dtype=dtype):  # backward inside autocast is the same
        again = [f.grad.clone() for f in layer.factors.parameters()]
        layer.zero_grad()
        layer(x).float().square().sum().backward()
    for factor, grad in zip(layer.factors.parameters(), again, strict=True):
        assert torch.equal(factor.grad, grad)


def test_autocast_does_not_lose_a_tiny_update(device, rng):
    base = nn.Linear(64, 48, bias=False).to(device)
    base.weight.data.zero_()
    layer = SnellLinear(base, 8, 0.9)  # entries start near 1e-4 and the survivors' squares below
    x = torch.randn(32, 64, generator=rng).to(device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        assert relative_error_of_the_branch(layer, base, x) < 0.02


def test_factors_cast_down_by_the_user_still_compute_in_float32(device, rng):
    layer = SnellLinear(nn.Linear(24, 20), 8, 0.5).to(device, torch.bfloat16)
    x = torch.randn(4, 24, generator=rng).to(device, torch.bfloat16)
    layer(x).sum().backward()
    assert layer.delta_weight().dtype == torch.float32
    assert layer.factors.inner.grad.dtype == torch.bfloat16
    assert layer.delta_weight().count_nonzero() == 240
    layer.factors.requires_grad_(False)
    assert layer.delta_weight().count_nonzero() == 240  # a threshold kept in bf16 would differ
