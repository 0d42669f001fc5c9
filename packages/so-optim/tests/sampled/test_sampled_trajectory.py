"""Hundreds of steps: sampled gradients move the weights as dense ones do."""

import copy

import pytest
import torch
from torch import nn

from so_optim import SO

STEPS = 200
TIGHT = 1e-12


class Net(nn.Module):
    """A little of everything that takes part."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.norm = nn.LayerNorm(8)
        self.mlp = nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8))
        # No bias: the gradient of the keys' is zero, and Adam would blow its rounding up.
        self.attention = nn.MultiheadAttention(8, 2, bias=False, batch_first=True)
        self.mix = nn.Parameter(torch.empty(8, 6))
        self.head = nn.Linear(6, 3)

    def forward(self, tokens):
        x = self.embedding(tokens)
        h = self.norm(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        return self.head((x + self.mlp(self.norm(x))) @ self.mix)


def batches(steps, rng):
    """Tokens and targets of every step."""
    for _ in range(steps):
        yield torch.randint(11, (4, 5), generator=rng), torch.randint(3, (4, 5), generator=rng)


def loss_of(model, batch):
    tokens, targets = batch
    return nn.functional.cross_entropy(model(tokens).flatten(0, 1).double(), targets.view(-1))


def train(model, optimizer, data):
    for batch in data:
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        optimizer.step()


def groups_of(model, **second):
    """Matrices in two groups, the rest in a third; the same order for every copy."""
    named = list(model.named_parameters())
    matrices = [p for _, p in named if p.ndim == 2]
    rest = [p for _, p in named if p.ndim != 2]
    return [
        {"params": matrices[::2]},
        {"params": matrices[1::2], **second},
        {"params": rest},
    ]


def difference(left, right):
    return max(
        (a - b).abs().max().item()
        for a, b in zip(left.state_dict().values(), right.state_dict().values(), strict=True)
    )


SETTINGS = {
    "as released": {},
    "T=1": {"T": 1},
    "T=3, before_update": {"T": 3, "prune": "before_update"},
    "per_entry": {"bias_correction": "per_entry", "T": 7},
    "per_entry, before_update": {"bias_correction": "per_entry", "prune": "before_update"},
    "coupled decay": {"weight_decay": 0.1},
    "decoupled decay": {"weight_decay": 0.1, "decoupled_weight_decay": True, "T": 4},
    "maximize": {"maximize": True},
    "one entry": {"density_ratio": 1e-9, "T": 2},
    "dense enough for the dense product": {"density_ratio": 0.3},
    "every entry": {"density_ratio": 1.0},
    "no betas": {"betas": (0.0, 0.9)},
}


@pytest.mark.parametrize(
    ("name", "memory"),
    [*((name, "free") for name in SETTINGS), ("as released", "minimal"), ("T=1", "low")],
)
def test_float64_trajectory(fill, rng, name, memory):
    settings = {"density_ratio": 0.05, **SETTINGS[name]}
    dense = fill(Net())
    sampled = copy.deepcopy(dense)
    data = list(batches(STEPS, rng))
    drop_in = SO(groups_of(dense), lr=1e-3, **settings)
    train(dense, drop_in, data)
    optimizer = SO(groups_of(sampled), lr=1e-3, **settings)
    with optimizer.sample_gradients(sampled, memory=memory):
        train(sampled, optimizer, data)
        assert difference(dense, sampled) < TIGHT
        assert_same_supports(optimizer, drop_in)


def assert_same_supports(sampled, drop_in):
    """Those of the next step: a leaf has to know its own before the forward pass."""
    ours, theirs = (
        [p for g in each.param_groups for p in g["params"]] for each in (sampled, drop_in)
    )
    matrices = [pair for pair in zip(ours, theirs, strict=True) if pair[1].ndim == 2]
    assert len(matrices) == 7
    for ours, theirs in matrices:
        left, right = sampled.coming_support(ours), drop_in.coming_support(theirs)
        torch.testing.assert_close(left, right, rtol=0, atol=0)


def test_groups_with_different_settings(fill, rng):
    second = {"density_ratio": 0.3, "T": 3, "lr": 3e-4, "weight_decay": 0.01, "maximize": False}
    dense = fill(Net())
    sampled = copy.deepcopy(dense)
    data = list(batches(STEPS, rng))
    train(dense, SO(groups_of(dense, **second), lr=1e-3, density_ratio=0.02), data)
    optimizer = SO(groups_of(sampled, **second), lr=1e-3, density_ratio=0.02)
    with optimizer.sample_gradients(sampled):
        train(sampled, optimizer, data)
        assert difference(dense, sampled) < TIGHT


class Scripted(SO):
    """Draw `d` of a weight of `n` entries is every seventh from `d` on: supports that overlap."""

    def _draw(self, seed, number, draw, n, k):
        return ((torch.arange(k) * 7 + draw) % n).unique()


@pytest.mark.parametrize("prune", ["after_update", "before_update"])
def test_injected_supports(fill, rng, prune):
    dense = fill(nn.Sequential(nn.Embedding(11, 8), nn.Linear(8, 3)))
    sampled = copy.deepcopy(dense)
    data = list(batches(STEPS, rng))
    settings = {"lr": 1e-3, "density_ratio": 0.1, "T": 3, "prune": prune}
    train(dense, Scripted(dense.parameters(), **settings), data)
    optimizer = Scripted(sampled.parameters(), **settings)
    with optimizer.sample_gradients(sampled):
        train(sampled, optimizer, data)
        assert difference(dense, sampled) < TIGHT


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.05), (torch.float16, 0.01)]
)
def test_narrow_models_train_alike(fill, rng, dtype, tolerance):
    """Adam turns the rounding of a small gradient into a step, so they stay close, not equal."""
    dense = fill(Net(), dtype)
    sampled, start = copy.deepcopy(dense), copy.deepcopy(dense)
    data = list(batches(1, rng)) * 60
    losses = []
    for model in (dense, sampled):
        optimizer = SO(model.parameters(), lr=3e-3, density_ratio=0.1)
        if model is sampled:
            sampling = optimizer.sample_gradients(sampled)
            assert {leaf.values.dtype for leaf in sampling.leaves.values()} == {torch.float32}
        train(model, optimizer, data)
        losses.append(loss_of(model, data[0]).item())
    before = loss_of(start, data[0]).item()
    assert losses[0] < before - 0.2
    assert losses[1] == pytest.approx(losses[0], abs=tolerance * before)


def test_entries_outside_the_union_stay_bit_for_bit(fill, rng):
    model = fill(Net(), torch.float32)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = SO(model.parameters(), lr=0.1, density_ratio=0.05, T=4)
    sampling = optimizer.sample_gradients(model)
    seen = {name: set() for name in start}
    for batch in batches(11, rng):
        for weight, leaf in sampling.leaves.items():
            seen[sampling.names[weight]] |= set(leaf.positions().tolist())
        train(model, optimizer, [batch])
    sampling.undo()
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            changed = (parameter.detach() != start[name]).flatten().nonzero().view(-1).tolist()
            assert changed
            assert set(changed) <= seen[name]


def test_sampling_may_begin_and_end_anywhere(fill, rng):
    """Dense, sampled, dense again: one trajectory, also within the life of a support."""
    dense = fill(Net())
    mixed = copy.deepcopy(dense)
    data = list(batches(60, rng))
    settings = {"lr": 1e-3, "density_ratio": 0.05, "T": 8}
    train(dense, SO(dense.parameters(), **settings), data)
    optimizer = SO(mixed.parameters(), **settings)
    train(mixed, optimizer, data[:13])
    for memory, part in (("minimal", data[13:27]), ("free", data[27:45])):
        with optimizer.sample_gradients(mixed, memory=memory):
            train(mixed, optimizer, part)
    train(mixed, optimizer, data[45:])
    assert difference(dense, mixed) < TIGHT


def test_micro_batches_add_up_to_the_big_batch(fill, rng):
    one = fill(Net())
    four = copy.deepcopy(one)
    data = list(batches(30, rng))
    for model, parts in ((one, 1), (four, 4)):
        optimizer = SO(model.parameters(), lr=1e-3, density_ratio=0.05, T=3)
        with optimizer.sample_gradients(model):
            for tokens, targets in data:
                optimizer.zero_grad()
                for part in zip(tokens.chunk(parts), targets.chunk(parts), strict=True):
                    (loss_of(model, part) / parts).backward()
                optimizer.step()
    assert difference(one, four) < TIGHT


def test_a_leaf_that_is_frozen_midway_is_left_out(fill, rng):
    dense = fill(Net())
    sampled = copy.deepcopy(dense)
    data = list(batches(20, rng))
    drop_in = SO(dense.parameters(), lr=1e-3, density_ratio=0.05, T=3)
    optimizer = SO(sampled.parameters(), lr=1e-3, density_ratio=0.05, T=3)
    with optimizer.sample_gradients(sampled):
        train(dense, drop_in, data[:7])
        train(sampled, optimizer, data[:7])
        for model, optim in ((dense, drop_in), (sampled, optimizer)):
            optim.zero_grad()
            named = dict(model.named_parameters())
            named.get("head.weight_at_support", named["head.weight"]).requires_grad_(False)
        frozen = named["head.weight"].detach().clone()
        train(dense, drop_in, data[7:])
        train(sampled, optimizer, data[7:])
        assert difference(dense, sampled) < TIGHT
        torch.testing.assert_close(named["head.weight"].detach(), frozen, rtol=0, atol=0)


def test_a_weight_used_twice_in_a_step(fill, rng):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.layer = nn.Embedding(11, 8), nn.Linear(8, 8)
            self.head = nn.Linear(8, 3)

        def forward(self, tokens):
            x = self.layer(self.embedding(tokens))
            return self.head(self.layer(x.tanh()) + x @ self.layer.weight)

    dense = fill(Twice())
    sampled = copy.deepcopy(dense)
    data = list(batches(50, rng))
    train(dense, SO(dense.parameters(), lr=1e-3, density_ratio=0.1), data)
    optimizer = SO(sampled.parameters(), lr=1e-3, density_ratio=0.1)
    with optimizer.sample_gradients(sampled):
        train(sampled, optimizer, data)
        assert difference(dense, sampled) < TIGHT
