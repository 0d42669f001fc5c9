"""At density 1, and in dense groups, SO is torch's Adam."""

import copy

import pytest
import torch

from so_optim import SO

EVERYTHING = [
    pytest.param({"density_ratio": 1.0, "dense": False}, id="density-1"),
    pytest.param({"dense": True}, id="dense"),
]


@pytest.mark.parametrize("everything", EVERYTHING)
@pytest.mark.parametrize("prune", ["after_update", "before_update"])
@pytest.mark.parametrize("bias_correction", ["global", "per_entry"])
@pytest.mark.parametrize(
    ("adam", "options"),
    [
        (torch.optim.Adam, {"weight_decay": 0.0}),
        (torch.optim.Adam, {"weight_decay": 0.1}),
        (torch.optim.Adam, {"weight_decay": 0.1, "maximize": True}),
        (torch.optim.AdamW, {"weight_decay": 0.1}),
    ],
)
def test_equals_adam(make_weights, set_grads, everything, prune, bias_correction, adam, options):
    ours = make_weights((12, 10), (3, 4, 2), (7,), ())
    theirs = copy.deepcopy(ours)
    common = {"lr": 1e-2, "betas": (0.8, 0.99), "eps": 1e-8, **options}
    so = SO(
        ours,
        T=3,
        prune=prune,
        bias_correction=bias_correction,
        decoupled_weight_decay=adam is torch.optim.AdamW,
        **common,
        **everything,
    )
    reference = adam(theirs, **common)
    for _ in range(200):
        set_grads(ours, theirs)
        so.step()
        reference.step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_what_is_not_a_matrix_is_dense_by_default(make_weights, set_grads):
    ours = make_weights((), (9,), (4, 5, 2), (2, 3, 2, 2))
    theirs = copy.deepcopy(ours)
    so, adam = SO(ours, lr=1e-2), torch.optim.Adam(theirs, lr=1e-2)
    for _ in range(20):
        set_grads(ours, theirs)
        so.step()
        adam.step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_first_dense_step_is_lr(make_weights):
    """The release corrects the first moment twice and moves by ten times lr."""
    (bias,) = make_weights((5,))
    before = bias.detach().clone()
    bias.grad = torch.full_like(bias, 3.0)
    SO([bias], lr=0.01).step()
    torch.testing.assert_close(before - bias.detach(), torch.full_like(before, 0.01))


def test_descends_a_quadratic(make_weights):
    (weight,) = make_weights((10, 10))
    optimizer = SO([weight], lr=0.05, density_ratio=0.1, T=5)
    start = weight.detach().square().sum()
    for _ in range(400):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()
    assert weight.detach().square().sum() < 0.1 * start
