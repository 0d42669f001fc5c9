"""Layer and reference stay equal over many optimizer steps, so masks that move are followed too."""

import pytest
import torch
from torch import nn

from snell_layers import SnellLinear
from snell_layers.reference import SnellLinearReference


def as_in_paper(factor):
    return factor.detach()[0].permute(1, 0, 2).flatten(1)


@pytest.mark.parametrize(
    ("kernel", "sparsifier", "sparsity", "learns"),
    [
        ("piecewise_linear", "released", 0.9, None),
        ("piecewise_linear", "paper", 0.7, None),
        ("piecewise_linear", "hard", 0.5, None),
        ("piecewise_linear", "released", 0.0, None),
        ("linear", "released", 0.8, None),
        ("linear", "none", 0.0, None),
        ("piecewise_linear", "released", 0.7, True),
        ("mixed", "released", 0.8, None),
        ("rbf", "paper", 0.5, None),
        ("sigmoid", "hard", 0.5, None),
    ],
)
def test_120_steps_equal_the_reference(device, rng, kernel, sparsifier, sparsity, learns):
    base = nn.Linear(24, 20).double().to(device)
    options = {"kernel": kernel, "sparsifier": sparsifier, "learn_coefficients": learns}
    fast = SnellLinear(base, 8, sparsity, seed=3, **options)
    slow = SnellLinearReference(
        base.weight,
        base.bias,
        as_in_paper(fast.factors.inner),
        as_in_paper(fast.factors.outer),
        s=sparsity,
        kernel=kernel,
        sparsifier=sparsifier,
        coefficients=fast.factors.coefficients,
    )
    target = torch.randn(20, 24, generator=rng, dtype=torch.float64).to(device)
    optimizers = [
        torch.optim.AdamW([p for p in m.parameters() if p.requires_grad], lr=1e-2)
        for m in (fast, slow)
    ]
    first_mask = fast.delta_weight() != 0
    for _ in range(120):
        x = torch.randn(8, 24, generator=rng, dtype=torch.float64).to(device)
        losses = []
        for layer, optimizer in zip((fast, slow), optimizers, strict=True):
            optimizer.zero_grad()
            loss = (layer(x) - x @ target.T).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        torch.testing.assert_close(*losses, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(fast.delta_weight(), slow.delta().detach(), rtol=1e-8, atol=1e-10)
    if sparsity > 0:
        moved = (fast.delta_weight() != 0) != first_mask
        assert moved.any(), "the support should have moved, or this test proves little"


def test_training_lowers_the_loss_and_leaves_the_base_alone(device, rng):
    base = nn.Linear(24, 20).to(device)
    weight, bias = base.weight.detach().clone(), base.bias.detach().clone()
    layer = SnellLinear(base, 8, 0.5)
    goal = weight + SnellLinear(nn.Linear(24, 20), 8, 0, seed=1).delta_weight().to(device)
    x = torch.randn(64, 24, generator=rng).to(device)
    optimizer = torch.optim.AdamW(layer.factors.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (layer(x) - x @ goal.T - bias).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert torch.equal(base.weight, weight)
    assert torch.equal(base.bias, bias)
    assert [name for name, p in layer.named_parameters() if p.requires_grad] == [
        "factors.inner",
        "factors.outer",
    ]
