"""SNELLA's allocator around an optimizer: budgets over time, and what a save keeps of it."""

from dataclasses import replace

import pytest
import torch

from fewshot_bench import adapters
from fewshot_bench.config import SnellOptions
from fewshot_bench.pipeline import score, train
from fewshot_bench.task import open_task
from snell_layers import SparsityAllocator

SNELLA = SnellOptions(kernel="mixed", budget="allocated", sparsity=0.8)


def kept(model) -> dict[str, int]:
    """Entries of the update of every adapted layer that are not zero."""
    layers = {n: m for n, m in model.named_modules() if hasattr(m, "get_delta_weight")}
    return {n: int(m.get_delta_weight("default").count_nonzero()) for n, m in layers.items()}


def size(config) -> int:
    _, backbone = open_task(config)
    return sum(linear.weight.numel() for linear in backbone.linears().values())


@pytest.mark.parametrize("steps", [2, 7, 12])
@pytest.mark.parametrize("backbone", ["tiny-vit", "tiny-bert"])
def test_in_the_end_the_budget_is_that_of_a_uniform_sparsity(configure, backbone, steps):
    config = configure("snell", backbone, snell=SNELLA, steps=steps)
    entries = kept(train(config).tuned.model)
    budget = int(0.2 * size(config))
    # Three pieces of a fused qkv share what three divides.
    assert budget - 2 * len(entries) <= sum(entries.values()) <= budget
    assert len(set(entries.values())) > 1


def test_the_budget_falls_while_it_trains(configure, monkeypatch):
    seen = []

    def recorded(self, epoch, allocate=SparsityAllocator.allocate):
        pattern = allocate(self, epoch)
        seen.append((epoch, self.budget(epoch), self.scores()))
        return pattern

    monkeypatch.setattr(SparsityAllocator, "allocate", recorded)
    train(configure("snell", snell=SNELLA, steps=10))
    assert [epoch for epoch, _, _ in seen] == list(range(10))
    budgets = [budget for _, budget, _ in seen]
    assert budgets == sorted(budgets, reverse=True)
    assert len(set(budgets)) == 10
    assert len(set(seen[0][2].values())) == 1, "nothing was observed before the first step"
    assert len(set(seen[-1][2].values())) > 1


def test_a_saved_model_is_as_sparse_as_the_trained_one(configure, tmp_path):
    config = configure("snell", snell=SNELLA, steps=6)
    trained = train(config)
    scores = score(config, trained.tuned, trained.data)
    adapters.save(trained.tuned, config, tmp_path / "saved", scores, trained.data.class_names)
    loaded, data, _ = adapters.load(tmp_path / "saved")
    assert kept(loaded.model) == kept(trained.tuned.model)
    batch = next(iter(data.test_batches(8)))
    with torch.no_grad():
        assert torch.equal(loaded.model.eval()(batch), trained.tuned.model.eval()(batch))


def test_without_a_competition_layers_stay_alike(configure):
    uniform = configure("snell", snell=replace(SNELLA, budget="uniform"))
    layers = train(uniform).tuned.model.modules()
    shares = {m.rule.sparsity for m in layers if hasattr(m, "rule") and hasattr(m, "kept")}
    assert shares == {0.8}
