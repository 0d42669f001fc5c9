"""SNELLA's allocator against its published equations, and what a training needs of it."""

import copy
import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from snell_layers import SnellLinear, SparsityAllocator
from snell_layers.quota import cubic_budget, share_out
from snell_layers.sparsify import order_statistic


@pytest.fixture
def model(device):
    """Layers of three sizes, one of them fused."""
    sizes = [(12, 16, 1), (16, 24, 3), (24, 6, 1)]
    layers = [
        SnellLinear(nn.Linear(n, m), 4, 0.01, pieces=p, kernel="mixed", seed=i)
        for i, (n, m, p) in enumerate(sizes)
    ]
    model = nn.Sequential(*layers).to(device, torch.float64)
    generator = torch.Generator().manual_seed(1)
    for layer in layers:
        layer.base.weight.data.normal_(generator=generator).mul_(0.2)
        layer.base.bias.data.zero_()
    return model


def steps(model, allocator, count, *, optimizer=None, seed=0):
    """Optimizer steps that the allocator observes; returns what a slow observer saw."""
    generator = torch.Generator().manual_seed(seed)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = optimizer or torch.optim.AdamW(trained, lr=1e-2)
    seen = []
    for _ in range(count):
        x = torch.randn(8, 12, generator=generator, dtype=torch.float64).to(trained[0].device)
        optimizer.zero_grad()
        (model(x) - x[:, :6]).square().mean().backward()
        optimizer.step()
        allocator.observe()
        factors = [f for m in model for f in (m.factors.inner, m.factors.outer)]
        seen.append([(f * f.grad).abs().detach() for f in factors])
    return seen


def survivors(layer):
    return int(layer.delta_weight().count_nonzero())


def test_scores_are_sensitivity_times_uncertainty(model):
    allocator = SparsityAllocator(model, final_sparsity=0.8, total=10, betas=(0.7, 0.9))
    seen = steps(model, allocator, 4)
    raw = []
    for layer in range(3):
        score = 0.0
        for side in (2 * layer, 2 * layer + 1):
            mean, unsure = torch.zeros(()), torch.zeros(())
            for one in seen:
                mean = 0.7 * mean + (1 - 0.7) * one[side]
                unsure = 0.9 * unsure + (1 - 0.9) * (one[side] - mean).abs()
            score += float((mean * unsure).mean())
        raw.append(score)
    expected = [score / sum(raw) for score in raw]
    assert list(allocator.scores().values()) == pytest.approx(expected, rel=1e-12)
    assert list(allocator.scores()) == ["0", "1", "2"]


def test_quotas_are_the_entries_that_survive(model):
    allocator = SparsityAllocator(model, final_sparsity=0.8, total=5, final_warmup=1)
    for epoch in range(5):
        pattern = allocator.allocate(epoch)
        entries = sum(survivors(layer) for layer in model)
        # Every layer drops at least one; three pieces share what three divides.
        assert allocator.budget(epoch) - 5 <= entries <= allocator.budget(epoch)
        for layer, sparsity in zip(model, pattern.values(), strict=True):
            assert survivors(layer) == round((1 - sparsity) * layer.base.weight.numel())
        steps(model, allocator, 2, seed=epoch)
    total = sum(layer.base.weight.numel() for layer in model)
    assert allocator.budget(4) == int(0.2 * total)
    assert len({round(s, 3) for s in pattern.values()}) == 3, "layers should differ by now"


def test_until_the_warm_up_ends_all_layers_are_alike(model):
    allocator = SparsityAllocator(
        model, initial_sparsity=0.25, final_sparsity=0.8, total=10, warmup=3
    )
    steps(model, allocator, 2)
    for epoch in (0, 3):
        assert set(allocator.allocate(epoch).values()) == {0.25}
    assert len(set(allocator.allocate(4).values())) == 3


def test_a_dense_layer_still_squares(model):
    """At sparsity 0 a layer would become KLoRA, another function: one entry is always dropped."""
    allocator = SparsityAllocator(model, final_sparsity=0.5, total=10)
    allocator.allocate(0)
    for layer in model:
        assert survivors(layer) == layer.base.weight.numel() - layer.factors.pieces
        delta = layer.delta_weight()
        w = layer.factors.rule.matrix(
            layer.factors.inner, layer.factors.outer, layer.factors._scalars()
        ).flatten(0, 1)
        torch.testing.assert_close(delta[delta != 0], (w * w.abs()).detach()[delta != 0])


def test_the_budget_is_the_published_cubic():
    kept = [cubic_budget(e, 1000, 200, 100) / 1000 for e in (0, 1, 10, 25, 50, 75, 99)]
    assert kept == pytest.approx([1.00, 0.98, 0.78, 0.54, 0.30, 0.21, 0.20], abs=0.005)
    assert cubic_budget(5, 10, 2, 10, warmup=5) == 10
    assert cubic_budget(8, 10, 2, 10, final_warmup=2) == 2
    assert cubic_budget(1, 1000 * 0.1, 0, 2, warmup=1) == 100


amounts = st.lists(
    st.tuples(st.floats(0, 1, allow_subnormal=False), st.integers(1, 10**7)), min_size=1, max_size=9
)


@given(layers=amounts, share=st.floats(0, 1.2))
def test_quotas_spend_the_budget_in_proportion(layers, share):
    scores, limits = (list(column) for column in zip(*layers, strict=True))
    budget = int(share * sum(limits))
    ones = [1] * len(scores)
    quotas = share_out(budget, scores, least=ones, most=limits)
    assert sum(quotas) == max(min(budget, sum(limits)), len(scores))
    assert all(1 <= q <= limit for q, limit in zip(quotas, limits, strict=True))
    shared = share_out(budget, scores, least=[0] * len(scores), most=limits)
    assert sum(shared) == min(budget, sum(limits))
    rates = [
        (q - 1, q + 1, s)
        for q, s, limit in zip(shared, scores, limits, strict=True)
        if 0 < q < limit and s > 0
    ]
    # One rate of entries per score fits all that are not full, each to within an entry.
    if rates:
        assert max(low / s for low, _, s in rates) <= min(high / s for _, high, s in rates)


def test_leftovers_of_full_layers_go_to_the_others():
    ones = {"least": [1, 1, 1]}
    assert share_out(100, [0.8, 0.1, 0.1], **ones, most=[40, 80, 80]) == [40, 30, 30]
    assert share_out(100, [1.0, 0.0, 0.0], **ones, most=[40, 80, 40]) == [40, 40, 20]
    assert share_out(10, [1.0, 1.0, 1.0], **ones, most=[9, 9, 9]) == [4, 3, 3]
    assert share_out(10, [1.0, 0.0, 0.0], **ones, most=[9, 9, 9]) == [8, 1, 1]


def test_a_resumed_training_is_equal_bit_for_bit(model):
    def fresh(network):
        allocator = SparsityAllocator(network, final_sparsity=0.8, total=6)
        trained = [p for p in network.parameters() if p.requires_grad]
        return allocator, torch.optim.AdamW(trained, lr=1e-2)

    allocator, optimizer = fresh(model)
    allocator.allocate(1)
    steps(model, allocator, 2, optimizer=optimizer)
    allocator.allocate(2)
    file = io.BytesIO()
    parts = (model, optimizer, allocator)
    torch.save([part.state_dict() for part in parts], file)
    file.seek(0)

    other = copy.deepcopy(model)
    for layer in other:
        layer.factors.keep(7)
        layer.factors.inner.data.zero_()
    again, second = fresh(other)
    for part, state in zip(
        (other, second, again), torch.load(file, weights_only=True), strict=True
    ):
        part.load_state_dict(state)
    assert again.pattern() == allocator.pattern()
    for network, one, opt in ((model, allocator, optimizer), (other, again, second)):
        steps(network, one, 3, optimizer=opt, seed=5)
        one.allocate(4)
    assert again.pattern() == allocator.pattern()
    assert again.scores() == allocator.scores()
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_an_averaged_copy_is_as_sparse_as_the_model(model):
    """The release evaluates its average without sparsity: the copy never hears of it."""
    allocator = SparsityAllocator(model, final_sparsity=0.9, total=4)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    for epoch in range(4):
        allocator.allocate(epoch)
        steps(model, allocator, 2, seed=epoch)
        average.update_parameters(model)
    average.eval()
    x = torch.ones(2, 12, dtype=torch.float64, device=model[0].base.weight.device)
    average(x)
    for mean, layer in zip(average.module, model, strict=True):
        assert mean.factors.rule.sparsity == layer.factors.rule.sparsity > 0.02
        assert survivors(mean) == survivors(layer)
        own = mean.factors
        w = own.rule.matrix(own.inner, own.outer, own._scalars()).detach()
        assert torch.equal(own.threshold, order_statistic(w, own.rule.sparsity))
        assert not torch.equal(own.threshold, layer.factors.threshold)


def test_a_checkpoint_carries_the_sparsity(model, device):
    allocator = SparsityAllocator(model, final_sparsity=0.9, total=4)
    steps(model, allocator, 2)
    allocator.allocate(3)
    layer = model[0]
    other = SnellLinear(nn.Linear(12, 16), 4, 0.5, kernel="mixed").to(device, torch.float64)
    other.load_state_dict(layer.state_dict())
    assert other.factors.rule.sparsity == layer.factors.rule.sparsity
    assert torch.equal(other.delta_weight(), layer.delta_weight())


def test_steps_without_finite_gradients_do_not_spoil_the_scores(model):
    allocator = SparsityAllocator(model, final_sparsity=0.8, total=10)
    steps(model, allocator, 1)
    model[0].factors.inner.grad[0, 0, 0, 0] = float("nan")
    model[1].factors.outer.grad[0, 0, 0, 0] = float("inf")
    model[2].factors.inner.grad = None
    allocator.observe()
    assert sum(allocator.scores().values()) == pytest.approx(1)


def test_layers_that_are_frozen_do_not_compete(model):
    model[1].factors.requires_grad_(False)
    assert list(SparsityAllocator(model, final_sparsity=0.5, total=2).pattern()) == ["0", "2"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"final_sparsity": 1.0}, "final_sparsity must be at least 0 and below 1, but is 1.0"),
        ({"initial_sparsity": -1}, "initial_sparsity must be at least 0 and below 1, but is -1"),
        ({"warmup": 6, "final_warmup": 4}, "total must be above warmup .* total is 10, warmup 6"),
        ({"betas": (0.9, 1.0)}, r"betas must be .* but are \(0.9, 1.0\)"),
        ({"final_sparsity": 0.9999}, "leaves 0 entries to 5 updates: lower it"),
    ],
)
def test_bad_options_of_the_allocator_are_named(model, options, message):
    with pytest.raises(ValueError, match=message):
        SparsityAllocator(model, **{"final_sparsity": 0.8, "total": 10, **options})


def test_models_without_a_budget_are_refused(model):
    with pytest.raises(ValueError, match="model is a Linear in which no SNELL layer is trained"):
        SparsityAllocator(nn.Linear(3, 3), final_sparsity=0.8, total=10)
    dense = SnellLinear(nn.Linear(12, 10), 4, 0, sparsifier="none")
    with pytest.raises(ValueError, match="sparsifier of 'factors' is 'none', which keeps every"):
        SparsityAllocator(dense, final_sparsity=0.8, total=10)
    with pytest.raises(ValueError, match=r"entries must be at least 1 and at most 192.*but is 0"):
        model[0].factors.keep(0)
    other = SparsityAllocator(nn.Sequential(*model[:2]), final_sparsity=0.8, total=10)
    with pytest.raises(ValueError, match=r"2\.inner is missing in it and \(1, 2, 24, 2\) in the"):
        SparsityAllocator(model, final_sparsity=0.8, total=10).load_state_dict(other.state_dict())
