"""Every wrong value is refused by name, before anything changes."""

import copy

import pytest
import torch

from so_optim import PRESETS, SO

NAN, INF = float("nan"), float("inf")
BAD_SETTINGS = [
    ("lr", [-1e-3, NAN, INF, "0.1", None, torch.tensor(-1.0), torch.ones(2)]),
    ("eps", [-1e-8, NAN, INF, "small"]),
    ("weight_decay", [-0.1, NAN, INF, None]),
    ("betas", [(1.0, 0.9), (0.9, -0.1), (0.9,), 0.9, (NAN, 0.9), ("a", "b"), None]),
    ("density_ratio", [0, 0.0, -0.1, 1.5, NAN, INF, "0.1", None, True]),
    ("T", [0, -3, 2.5, 10.0, "5", None, True]),
    ("dense", ["yes", 2]),
    ("prune", ["after", "never", None, 1]),
    ("bias_correction", ["globl", None]),
    ("nonfinite", ["ignore", None]),
    ("seed", [0.5, "a", None, True]),
    ("maximize", ["no"]),
    ("decoupled_weight_decay", [0.1]),
]
CASES = [
    pytest.param(name, value, id=f"{name}={value!r}") for name, vs in BAD_SETTINGS for value in vs
]


@pytest.mark.parametrize(("name", "value"), CASES)
def test_refuses_a_setting_by_name(make_weights, name, value):
    with pytest.raises(ValueError, match=name) as caught:
        SO(make_weights((4, 4)), **{name: value})
    assert repr(value) in str(caught.value) or isinstance(value, torch.Tensor)


@pytest.mark.parametrize(("name", "value"), CASES)
def test_refuses_a_setting_of_a_group_and_keeps_the_groups(make_weights, name, value):
    first, second = make_weights((4, 4), (4, 4))
    optimizer = SO([first])
    with pytest.raises(ValueError, match=name):
        optimizer.add_param_group({"params": [second], name: value})
    assert len(optimizer.param_groups) == 1


def test_offers_the_closest_option(make_weights):
    with pytest.raises(ValueError, match="did you mean 'after_update'"):
        SO(make_weights((4, 4)), prune="after-update")


def test_refuses_no_parameters():
    with pytest.raises(ValueError, match="empty parameter list"):
        SO([])


def test_refuses_sparse_gradients():
    embedding = torch.nn.Embedding(5, 4, sparse=True)
    optimizer = SO(embedding.named_parameters())
    embedding(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(ValueError, match=r"parameter 0 \(weight, shape \(5, 4\)\).*sparse=False"):
        optimizer.step()


def test_refuses_complex_weights():
    weight = torch.zeros(3, 3, dtype=torch.complex64).requires_grad_()
    weight.grad = torch.ones_like(weight)
    with pytest.raises(ValueError, match=r"complex64.*view_as_real"):
        SO([weight]).step()


def run_into(optimizer, weights, set_grads, bad, at):
    """Two good steps, then one whose gradient of weight `at` is bad everywhere."""
    for _ in range(2):
        set_grads(weights)
        optimizer.step()
    before = copy.deepcopy((weights, optimizer.state_dict()["state"]))
    set_grads(weights)
    weights[at].grad.fill_(bad)
    return before


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("T", [2, 10])
def test_a_bad_gradient_raises_and_poisons_nothing(make_weights, set_grads, bad, at, T):
    weights = make_weights((20, 20), (10, 10), (4,))
    optimizer = SO(weights, density_ratio=0.05, T=T)
    before = run_into(optimizer, weights, set_grads, bad, at)
    with pytest.raises(ValueError, match=rf"parameter {at} .* NaN or infinite.*nonfinite='skip'"):
        optimizer.step()
    assert_equal((weights, optimizer.state_dict()["state"]), before)


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("T", [2, 10])
def test_a_bad_gradient_can_be_skipped(make_weights, set_grads, at, T):
    weights = make_weights((20, 20), (10, 10), (4,))
    optimizer = SO(weights, density_ratio=0.05, T=T, nonfinite="skip")
    before = run_into(optimizer, weights, set_grads, NAN, at)
    optimizer.step()
    assert_equal((weights, optimizer.state_dict()["state"]), before)
    set_grads(weights)
    optimizer.step()
    assert all(weight.isfinite().all() for weight in weights)
    assert optimizer.state[weights[0]]["step"] == 3


def test_a_bad_first_gradient_leaves_no_state(make_weights):
    (weight,) = make_weights((20, 20))
    optimizer = SO([weight], nonfinite="skip")
    weight.grad = torch.full_like(weight, NAN)
    optimizer.step()
    assert not optimizer.state


def assert_equal(left, right):
    torch.testing.assert_close(left, right, rtol=0, atol=0)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_build(make_weights, name):
    optimizer = SO(make_weights((4, 4)), **PRESETS[name])
    assert optimizer.defaults.items() >= PRESETS[name].items()


def test_presets_are_the_published_ones():
    values = {name: (p["lr"], p["density_ratio"], p["T"]) for name, p in PRESETS.items()}
    assert values["clip-paper"] == (2e-4, 5e-4, 10)
    assert values["clip-release"] == (2e-4, 5e-5, 5)
    assert values["bert-release"] == (2e-5, 1e-4, 5)
