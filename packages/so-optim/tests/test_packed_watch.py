"""On an accelerator a bad gradient empties its step on the device, and the host hears of it later.

The CPU takes the same path here by a private switch.
"""

import copy

import pytest
import torch

from so_optim import SO

NAN, INF = float("nan"), float("inf")
SHAPES = [(30, 20), (9, 11), (7,), ()]
SETTINGS = [
    {},
    {"weight_decay": 0.1, "prune": "before_update"},
    {"weight_decay": 0.1, "decoupled_weight_decay": True, "bias_correction": "per_entry"},
    {"eps": 0.0, "maximize": True},
]


def watching(weights, **settings):
    optimizer = SO(weights, lr=0.05, density_ratio=0.05, **settings)
    optimizer._packed.waits = False
    return optimizer


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("settings", SETTINGS)
def test_watching_gives_the_same_bits_as_waiting(make_weights, set_grads, settings, dtype):
    ours = make_weights(*SHAPES, dtype=dtype)
    theirs = copy.deepcopy(ours)
    watched = watching(ours, T=3, **settings)
    waited = SO(theirs, lr=0.05, density_ratio=0.05, T=3, **settings)
    for _ in range(10):
        set_grads(ours, theirs)
        watched.step()
        waited.step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("at", range(len(SHAPES)))
@pytest.mark.parametrize("settings", SETTINGS)
def test_a_bad_gradient_changes_nothing(make_weights, set_grads, settings, at, bad):
    weights = make_weights(*SHAPES)
    optimizer = watching(weights, T=10, nonfinite="skip", **settings)
    twins = copy.deepcopy(weights)
    other = watching(twins, T=10, **settings)
    for number in range(8):
        set_grads(weights, twins)
        if number in (3, 4):
            with torch.no_grad():
                weights[at].grad.fill_(bad)
            frozen = copy.deepcopy(weights)
            optimizer.step()
            torch.testing.assert_close(weights, frozen, rtol=0, atol=0)
        else:
            optimizer.step()
            other.step()
    torch.testing.assert_close(weights, twins, rtol=0, atol=0)
    for a, b in zip(weights, twins, strict=True):
        ours, theirs = dict(optimizer.state[a]), dict(other.state[b])
        ours.pop("support_age", 0), theirs.pop("support_age", 0)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("bad", [NAN, INF])
def test_bad_steps_from_the_first_on_leave_no_moments(make_weights, set_grads, bad):
    """A window that only saw bad gradients ends with nothing kept, and the next one works."""
    weights = make_weights((30, 20), (9, 11))
    optimizer = watching(weights, T=2, nonfinite="skip")
    before = copy.deepcopy(weights)
    for _ in range(5):
        set_grads(weights)
        weights[0].grad.fill_(bad)
        optimizer.step()
    torch.testing.assert_close(weights, before, rtol=0, atol=0)
    assert [len(optimizer.state[w]["kept"]) for w in weights] == [0, 0]
    set_grads(weights)
    optimizer.step()
    assert [len(optimizer.state[w]["kept"]) for w in weights] == [30, 4]
    assert optimizer.state[weights[0]]["step"] == 1


@pytest.mark.parametrize("at", range(len(SHAPES)))
def test_the_next_step_raises_by_name(make_weights, set_grads, at):
    weights = make_weights(*SHAPES)
    optimizer = watching(weights)
    set_grads(weights)
    optimizer.step()
    before = copy.deepcopy(weights)
    with torch.no_grad():
        weights[at].grad.fill_(NAN)
    optimizer.step()
    set_grads(weights)
    with pytest.raises(ValueError, match=rf"parameter {at} .* NaN or infinite"):
        optimizer.step()
    torch.testing.assert_close(weights, before, rtol=0, atol=0)
    optimizer.step()  # once is enough
    assert not torch.equal(weights[0], before[0])


def test_reading_the_state_does_not_hide_a_bad_gradient(make_weights, set_grads):
    weights = make_weights(*SHAPES)
    optimizer = watching(weights)
    set_grads(weights)
    weights[1].grad.fill_(INF)
    optimizer.step()
    assert optimizer.state[weights[0]]["step"] == 0
    with pytest.raises(ValueError, match=r"parameter 1 .* NaN or infinite"):
        optimizer.step()
