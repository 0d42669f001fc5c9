"""What SO is named for: few entries change, all others stay bit for bit."""

import pytest
import torch

from so_optim import SO, support_size

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def bits(weight):
    """The raw bytes, so that -0.0 and NaN count too."""
    return weight.detach().clone().contiguous().view(-1).view(torch.uint8).view(weight.numel(), -1)


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("prune", ["after_update", "before_update"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_only_the_union_changes(make_weights, set_grads, dtype, prune, decoupled):
    weights = make_weights((30, 20), dtype=dtype)
    weight = weights[0]
    optimizer = SO(
        weights,
        lr=0.1,
        density_ratio=0.02,
        T=3,
        prune=prune,
        weight_decay=0.1,
        decoupled_weight_decay=decoupled,
    )
    k = support_size(600, 0.02)
    kept = set()
    for _ in range(20):
        before = bits(weight)
        set_grads(weights)
        optimizer.step()
        changed = set((bits(weight) != before).any(dim=1).nonzero().view(-1).tolist())
        state = optimizer.state[weight]
        union = kept | set(state["support"].tolist())
        kept = set(state["kept"].tolist())
        assert changed <= (union if prune == "after_update" else kept)
        assert len(kept) == len(state["exp_avg"]) == len(state["exp_avg_sq"]) == k
        assert kept <= union
    assert len(changed) > k // 2


@pytest.mark.parametrize("decoupled", [False, True])
def test_entries_outside_the_support_are_not_decayed(make_weights, decoupled):
    (weight,) = make_weights((30, 20))
    optimizer = SO(
        [weight],
        lr=0.1,
        density_ratio=0.02,
        T=1,
        weight_decay=0.1,
        decoupled_weight_decay=decoupled,
    )
    for _ in range(10):
        before = weight.detach().clone()
        kept = optimizer.state[weight]["kept"] if weight in optimizer.state else []
        old = dict(zip(kept, optimizer.state[weight]["exp_avg"], strict=True)) if len(kept) else {}
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
        state = optimizer.state[weight]
        coasting = [p for p in old if p not in state["support"] and p in state["kept"]]
        for position in coasting:
            new = state["exp_avg"][state["kept"] == position]
            torch.testing.assert_close(new[0], 0.9 * old[position])
        if decoupled:  # zero gradients: nothing but the decay moves, and only at the support
            changed = (weight.detach() - before).flatten().nonzero().view(-1)
            assert torch.equal(changed, state["support"])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_moments_are_at_least_fp32(make_weights, set_grads, dtype):
    weights = make_weights((30, 20), (7,), dtype=dtype)
    optimizer = SO(weights, density_ratio=0.02)
    set_grads(weights)
    optimizer.step()
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for weight in weights:
        assert optimizer.state[weight]["exp_avg"].dtype == wide
        assert optimizer.state[weight]["exp_avg_sq"].dtype == wide


def test_second_moment_decays_in_bf16(make_weights):
    """In bf16 itself 0.999 v rounds back to v, so the release's v never decays."""
    (weight,) = make_weights((10, 10), dtype=torch.bfloat16)
    optimizer = SO([weight], density_ratio=0.1, T=1000)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    first = optimizer.state[weight]["exp_avg_sq"].clone()
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    torch.testing.assert_close(optimizer.state[weight]["exp_avg_sq"], 0.999 * first)


def test_state_is_linear_in_k(make_weights, set_grads):
    weights = make_weights((1000, 200), dtype=torch.float32)
    optimizer = SO(weights, density_ratio=1e-3)
    set_grads(weights)
    optimizer.step()
    tensors = [v for v in optimizer.state[weights[0]].values() if isinstance(v, torch.Tensor)]
    assert sum(t.numel() * t.element_size() for t in tensors) <= 24 * 200 + 64


def test_density_and_life_may_change_midway(make_weights, set_grads):
    weights = make_weights((30, 20))
    optimizer = SO(weights, density_ratio=0.02, T=4)
    sizes = []
    for step in range(16):
        if step == 6:
            optimizer.param_groups[0]["density_ratio"] = 0.1
        if step == 9:
            optimizer.param_groups[0].update(density_ratio=0.01, T=2)
        set_grads(weights)
        optimizer.step()
        state = optimizer.state[weights[0]]
        sizes.append(len(state["support"]))
        assert len(state["kept"]) == len(state["exp_avg"]) == sizes[-1]
    assert sizes == [12] * 8 + [60] * 2 + [6] * 6


def test_bias_correction_may_change_midway(make_weights, set_grads):
    weights = make_weights((30, 20))
    optimizer = SO(weights, density_ratio=0.02, T=4)
    for step in range(12):
        optimizer.param_groups[0]["bias_correction"] = ["global", "per_entry"][step // 3 % 2]
        set_grads(weights)
        optimizer.step()
        assert ("kept_age" in optimizer.state[weights[0]]) == (step // 3 % 2 == 1)
