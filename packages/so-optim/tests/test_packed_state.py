"""Packs and the state of each parameter are the same thing, seen twice."""

import copy

import pytest
import torch

from so_optim import SO
from so_optim.reference import SOReference
from so_optim.support import draw_support, support_stream

SHAPES = [(30, 20), (9, 11), (20, 30), (7,), ()]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("bias_correction", ["global", "per_entry"])
@pytest.mark.parametrize("prune", ["after_update", "before_update"])
def test_reading_the_state_changes_nothing(make_weights, set_grads, dtype, bias_correction, prune):
    ours = make_weights(*SHAPES, dtype=dtype)
    theirs = copy.deepcopy(ours)
    settings = {"lr": 0.05, "density_ratio": 0.05, "T": 4, "weight_decay": 0.1}
    settings |= {"bias_correction": bias_correction, "prune": prune}
    read, left_alone = SO(ours, **settings), SO(theirs, **settings)
    for number in range(17):
        set_grads(ours, theirs)
        read.step()
        left_alone.step()
        if number % 3 == 0:
            assert len(read.state[ours[0]]["kept"]) == 30
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(read.state[a], left_alone.state[b], rtol=0, atol=0)


def test_there_is_one_truth(make_weights, set_grads):
    """What was read is a copy that later steps leave alone; what is written is used."""
    weights = make_weights((30, 20))
    optimizer = SO(weights, density_ratio=0.05)
    set_grads(weights)
    optimizer.step()
    saved = optimizer.state_dict()["state"][0]
    frozen = copy.deepcopy(saved)
    set_grads(weights)
    optimizer.step()
    torch.testing.assert_close(saved, frozen, rtol=0, atol=0)
    optimizer.state[weights[0]]["exp_avg"].zero_()
    optimizer.state[weights[0]]["exp_avg_sq"].fill_(1.0)
    weights[0].grad = torch.zeros_like(weights[0])
    before = weights[0].detach().clone()
    optimizer.step()
    assert torch.equal(weights[0], before)


def test_members_come_and_go(make_weights, set_grads):
    """A weight without gradient in some steps is left out of them, like in the twin."""
    ours = make_weights((12, 10), (10, 12), (6, 20))
    theirs = copy.deepcopy(ours)
    optimizer = SO(ours, lr=0.01, density_ratio=0.1, T=3)
    reference = SOReference(
        theirs,
        lr=0.01,
        density_ratio=0.1,
        T=3,
        supports=lambda i, draw, n, k: draw_support(n, k, support_stream(0, i, draw)),
    )
    for number in range(40):
        set_grads(ours, theirs, skip={0: (), 1: (1,), 2: (0, 2), 3: (2,)}[number // 5 % 4])
        optimizer.step()
        reference.step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_many_support_sizes_equal_the_reference(twins):
    """More different sizes than are selected one by one."""
    shapes = [(5 + i, 9) for i in range(9)]
    for prune in ("after_update", "before_update"):
        assert twins(shapes, 40, lr=1e-2, density_ratio=0.3, T=3, prune=prune) < 1e-12


def test_the_coming_support_is_used(make_weights, set_grads):
    weights = make_weights((30, 20), (9, 11))
    optimizer = SO(weights, density_ratio=0.05, T=2)
    for number in range(7):
        coming = [optimizer.coming_support(weight).clone() for weight in weights]
        assert optimizer.state[weights[0]]["step"] == number
        set_grads(weights)
        optimizer.step()
        for weight, support in zip(weights, coming, strict=True):
            assert torch.equal(optimizer.state[weight]["support"], support)
    assert optimizer.state[weights[0]]["draws"] == 4


def test_a_leaf_serves_the_step_it_is_in_when_its_life_is_shortened():
    """Supports of different age end together, after the gradients taken at them were used."""
    model = torch.nn.ModuleList(torch.nn.Linear(20, 10, bias=False) for _ in range(2))
    optimizer = SO(model.parameters(), density_ratio=0.1, T=10)
    leaves = list(optimizer.sample_gradients(model).leaves.values())
    first = [leaf.positions() for leaf in leaves]
    for number in range(6):
        for leaf, runs in zip(leaves, (True, number > 2), strict=True):
            leaf.values.grad = torch.ones_like(leaf.values) if runs else None
        if number == 5:
            optimizer.param_groups[0]["T"] = 2
        assert all(map(torch.equal, (leaf.positions() for leaf in leaves), first))
        optimizer.step()
    states = [optimizer.state[leaf.values] for leaf in leaves]
    assert [(s["step"], s["draws"], s["support_age"]) for s in states] == [(6, 2, 0), (3, 2, 0)]
    for leaf, state, old in zip(leaves, states, first, strict=True):
        assert torch.equal(leaf.positions(), state["support"])
        assert not torch.equal(leaf.positions(), old)


def test_asking_for_the_coming_support_changes_nothing(make_weights, set_grads):
    ours = make_weights((30, 20), (9, 11))
    theirs = copy.deepcopy(ours)
    asked, left_alone = SO(ours, density_ratio=0.05, T=2), SO(theirs, density_ratio=0.05, T=2)
    for _ in range(7):
        asked.coming_support(ours[1])
        set_grads(ours, theirs)
        asked.step()
        left_alone.step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_the_coming_support_of_a_stranger_is_refused(make_weights):
    optimizer = SO(make_weights((4, 4)))
    with pytest.raises(ValueError, match=r"param of shape \(3, 3\) is in no group"):
        optimizer.coming_support(torch.zeros(3, 3))


@pytest.mark.parametrize("prune", ["after_update", "before_update"])
@pytest.mark.parametrize("bias_correction", ["global", "per_entry"])
@pytest.mark.parametrize("eps", [0.0, 1e-8])
@pytest.mark.parametrize("together", [False, True])
def test_entries_outside_the_union_keep_even_a_negative_zero(
    rng, prune, bias_correction, eps, together
):
    """Slots that nobody owns are written too, and must not turn -0.0 into 0.0 or NaN."""
    store = torch.full((2, 20, 30), -0.0)
    weights = [store[i] if together else store[i].clone() for i in range(2)]
    settings = {"prune": prune, "bias_correction": bias_correction, "eps": eps}
    optimizer = SO(
        [w.requires_grad_() for w in weights], lr=0.1, density_ratio=0.05, T=3, **settings
    )
    touched = [set(), set()]
    for _ in range(10):
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=rng)
        optimizer.step()
        for seen, weight in zip(touched, weights, strict=True):
            seen |= set(optimizer.state[weight]["support"].tolist())
            flat = weight.detach().flatten()
            assert flat.isfinite().all()
            outside = torch.ones(600, dtype=torch.bool)
            outside[list(seen)] = False
            assert (flat[outside] == 0).all()
            assert flat[outside].signbit().all()
