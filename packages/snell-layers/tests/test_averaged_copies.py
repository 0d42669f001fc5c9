"""Averaged (EMA) copies of a model whose layers compete: sparse, with thresholds of their own.

The release deep-copies the model and never tells the copy of a new sparsity, so its average is
evaluated with all but one entry of every update.
"""

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn, get_ema_multi_avg_fn

from snell_layers import SnellLinear, SparsityAllocator
from snell_layers.sparsify import order_statistic

DECAY, EPOCHS, STEPS = 0.9, 5, 3
AVERAGES = {
    "ema": {"multi_avg_fn": get_ema_multi_avg_fn(DECAY)},
    "ema, one by one": {"avg_fn": get_ema_avg_fn(DECAY)},
    "mean": {},
}


def layers() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = ((12, 16, 1), (16, 24, 3), (24, 6, 1))
        built = [SnellLinear(nn.Linear(n, m), 4, 0.01, pieces=p, seed=n) for n, m, p in sizes]
    return nn.Sequential(*built).double()


def trained(**options):
    """A plain loop; gives the model, its average and what every layer kept after each step."""
    model, generator = layers(), torch.Generator().manual_seed(1)
    average = AveragedModel(model, **options)
    allocator = SparsityAllocator(model, final_sparsity=0.9, total=EPOCHS, final_warmup=1)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    kept = []
    for epoch in range(EPOCHS):
        allocator.allocate(epoch)
        for _ in range(STEPS):
            x = torch.randn(8, 12, generator=generator, dtype=torch.float64)
            optimizer.zero_grad()
            (model(x) - x[:, :6]).square().mean().backward()
            optimizer.step()
            allocator.observe()
            average.update_parameters(model)
            kept.append([int(layer.factors.kept) for layer in model])
    return model, average.eval(), kept


def check_own_thresholds(copied, model):
    copied(torch.ones(2, 12, dtype=torch.float64))
    for mean, layer in zip(copied, model, strict=True):
        own = mean.factors
        w = own.rule.matrix(own.inner, own.outer, own._scalars()).detach()
        survivors = (mean.delta_weight() != 0).view(own.pieces, -1).sum(1)
        assert survivors.tolist() == [int(own.kept)] * own.pieces
        assert torch.equal(own.threshold, order_statistic(w, own.rule.sparsity))
        assert not torch.equal(own.threshold, layer.factors.threshold)
        assert not torch.equal(own.inner, layer.factors.inner)


@pytest.mark.parametrize("name", AVERAGES)
def test_a_copy_is_exactly_as_sparse_as_the_model(name):
    model, average, _ = trained(**AVERAGES[name])
    check_own_thresholds(average.module, model)
    for mean, layer in zip(average.module, model, strict=True):
        assert int(mean.factors.kept) == int(layer.factors.kept) < 0.9 * layer.factors.entries


@pytest.mark.parametrize("name", AVERAGES)
def test_averaged_buffers_average_the_number_of_entries_too(name):
    """What `use_buffers=True` asks for: the copy's sparsity lags behind, and it is no accident."""
    model, average, kept = trained(**AVERAGES[name], use_buffers=True)
    check_own_thresholds(average.module, model)
    for place, mean in enumerate(average.module):
        history = [counts[place] for counts in kept]
        expected = float(history[0])
        for number, count in enumerate(history[1:], start=2):
            share = 1 / number if name == "mean" else 1 - DECAY
            expected += share * (count - expected)
        # The buffer holds whole numbers, so every update may lose one, and decay forgets it.
        most = len(history) if name == "mean" else 1 / (1 - DECAY)
        assert abs(int(mean.factors.kept) - expected) <= most
        assert int(mean.factors.kept) < 0.9 * mean.factors.entries


@pytest.mark.parametrize("use_buffers", [False, True])
def test_an_average_survives_a_checkpoint(use_buffers, tmp_path):
    _, average, _ = trained(**AVERAGES["ema"], use_buffers=use_buffers)
    torch.save(average.state_dict(), tmp_path / "average.pt")
    again = AveragedModel(layers(), use_buffers=use_buffers).eval()
    again.load_state_dict(torch.load(tmp_path / "average.pt", weights_only=True))
    x = torch.ones(2, 12, dtype=torch.float64)
    assert torch.equal(again(x), average(x))
    assert torch.equal(copy.deepcopy(average)(x), average(x))
