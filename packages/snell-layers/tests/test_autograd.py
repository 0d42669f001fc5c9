"""What a training step needs: gradients with a frozen input, checkpointing, and little memory."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from snell_layers import SnellLinear, SnellRule, snell_linear
from snell_layers.kernel import KERNELS


@pytest.fixture
def network(device):
    """Two adapted layers behind a frozen stem."""
    torch_rng = torch.Generator().manual_seed(1)
    model = nn.Sequential(
        nn.Linear(12, 16),
        SnellLinear(nn.Linear(16, 24), 8, 0.5, seed=1),
        nn.GELU(),
        SnellLinear(nn.Linear(24, 10), 8, 0.5, seed=2),
    ).to(device, torch.float64)
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data.normal_(generator=torch_rng)
    model[0].requires_grad_(False)
    return model


def trained(model):
    return [p for p in model.parameters() if p.requires_grad]


def gradients(model, x, call=None):
    model.zero_grad()
    y = model(x) if call is None else call(model, x)
    y.square().sum().backward()
    return [p.grad.clone() for p in trained(model)]


def test_every_factor_gets_a_gradient_behind_fully_frozen_inputs(network, rng, device):
    """The release's Swin and ConvNeXt train no adapter at all, because of exactly this."""
    x = torch.randn(5, 12, generator=rng, dtype=torch.float64).to(device)
    assert not x.requires_grad
    grads = gradients(network, x)
    assert len(grads) == 4
    assert all(g.isfinite().all() and g.abs().max() > 0 for g in grads)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_gives_the_same_gradients(network, rng, device, reentrant):
    x = torch.randn(5, 12, generator=rng, dtype=torch.float64).to(device)
    x.requires_grad_(reentrant)  # the reentrant form needs it by design
    plain = gradients(network, x)
    again = gradients(network, x, lambda m, x: checkpoint(m, x, use_reentrant=reentrant))
    for a, b in zip(plain, again, strict=True):
        assert torch.equal(a, b)


def test_accumulation_and_layer_reuse(device, rng):
    layer = SnellLinear(nn.Linear(16, 16), 8, 0.5).to(device, torch.float64)
    x = torch.randn(6, 16, generator=rng, dtype=torch.float64).to(device)
    whole = gradients(layer, x, lambda m, x: m(m(x)))
    layer.zero_grad()
    halves = [layer(layer(half)).square().sum() for half in x.chunk(2)]
    sum(halves).backward()  # both forwards ran before any backward
    for parameter, grad in zip(trained(layer), whole, strict=True):
        torch.testing.assert_close(parameter.grad, grad)


@pytest.mark.parametrize("kernel", KERNELS)
def test_nothing_of_the_weights_size_is_saved(device, rng, kernel):
    """Saved for backward: parameters, the input and a handful of numbers."""
    layer = SnellLinear(nn.Linear(96, 128), 8, 0.9, kernel=kernel).to(device)
    x = torch.randn(2, 96, generator=rng).to(device).requires_grad_()
    own = {t.untyped_storage().data_ptr() for t in [*layer.parameters(), *layer.buffers(), x]}
    saved = []

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in own:
            saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = layer(x)
    y.sum().backward()
    assert sum(saved) <= 1, f"beside parameters and input, only the threshold: {saved}"


def test_the_input_is_not_saved_where_only_its_gradient_is_needed(device, rng):
    layer = SnellLinear(nn.Linear(12, 10), 4, 0.5).to(device)
    layer.factors.requires_grad_(False)
    x = torch.randn(3, 12, generator=rng).to(device).requires_grad_()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        y = layer(x)
    assert all(t.data_ptr() != x.data_ptr() for t in saved)
    y.sum().backward()
    expected = (layer.base.weight + layer.delta_weight()).sum(0).expand_as(x)
    torch.testing.assert_close(x.grad, expected)


def test_shapes_of_the_input(device, rng):
    layer = SnellLinear(nn.Linear(12, 10), 4, 0.5).to(device, torch.float64)
    x = torch.randn(2, 3, 12, generator=rng, dtype=torch.float64).to(device)
    batch = layer(x)
    torch.testing.assert_close(layer(x[1, 2]), batch[1, 2])
    torch.testing.assert_close(layer(x.mT.contiguous().mT), batch)  # not contiguous
    assert layer(x[:0]).shape == (0, 3, 10)
    layer(x[:0]).sum().backward()
    assert all(p.grad.eq(0).all() for p in trained(layer))


def test_only_needed_gradients_are_computed(make_factors):
    rule = SnellRule(4, 0.5)
    inner, outer = make_factors(rule, 5, 6)
    weight = torch.ones(5, 6, dtype=torch.float64, device=inner.device, requires_grad=True)
    bias = torch.ones(5, dtype=torch.float64, device=inner.device, requires_grad=True)
    x = torch.ones(3, 6, dtype=torch.float64, device=inner.device)
    y, threshold = snell_linear(x, inner.detach(), outer, rule, weight=weight, bias=bias)
    y.sum().backward()
    assert inner.grad is None
    assert outer.grad is not None
    assert not threshold.requires_grad
    assert torch.equal(weight.grad, torch.full_like(weight, 3))
    assert torch.equal(bias.grad, torch.full_like(bias, 3))


def test_second_derivatives_are_refused(device):
    layer = SnellLinear(nn.Linear(12, 10), 4, 0.5).to(device)
    x = torch.ones(3, 12, device=device, requires_grad=True)
    (grad,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()
