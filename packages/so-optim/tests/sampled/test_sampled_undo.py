"""Sampling leaves a model as it looks from outside, and `undo` leaves no trace at all."""

import copy
import pickle

import pytest
import torch
from torch import nn

from so_optim import SO

MEMORY = ("free", "low", "minimal")


class Net(nn.Module):
    """Everything that gets another class, and what does not."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 8, padding_idx=1)
        self.norm = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, bias=False, batch_first=True)
        self.mlp = nn.Sequential()
        for name, layer in (
            ("c_fc", nn.Linear(8, 12)),
            ("gelu", nn.GELU()),
            ("c_proj", nn.Linear(12, 8)),
        ):
            self.mlp.add_module(name, layer)
        self.mix = nn.Parameter(torch.empty(8, 6))
        self.decoder = nn.Linear(8, 11)
        self.decoder.weight = self.embedding.weight

    def forward(self, tokens):
        x = self.embedding(tokens)
        h = self.norm(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        x = x + self.mlp(self.norm(x))
        return self.decoder(x), x @ self.mix


def train(model, optimizer, rng, steps, stop_before_step=False):
    for step in range(steps):
        tokens = torch.randint(11, (3, 5), generator=rng)
        logits, mixed = model(tokens)
        (logits.logsumexp(-1).mean() + mixed.square().mean()).backward()
        if not (stop_before_step and step == steps - 1):
            optimizer.step()
            optimizer.zero_grad()


def picture(model, optimizer):
    """Everything about a model and its optimizer that sampling touches."""
    names = {id(p): name for name, p in model.named_parameters()}
    return {
        "classes": [type(each) for each in model.modules()],
        "fields": [sorted(each.__dict__) for each in model.modules()],
        "parameters": [(name, id(p), p.requires_grad) for name, p in model.named_parameters()],
        "attributes": [sorted(p.__dict__) for p in model.parameters()],
        "groups": [[names.get(id(p)) for p in g["params"]] for g in optimizer.param_groups],
        "settings": [{**group, "params": None} for group in optimizer.param_groups],
        "repr": repr(model),
        "keys": list(model.state_dict()),
        "storages": len({p.untyped_storage().data_ptr() for p in model.parameters()}),
        "sizes": [p.untyped_storage().nbytes() for p in model.parameters()],
    }


@pytest.mark.parametrize("memory", MEMORY)
def test_undo_leaves_no_trace(fill, rng, memory):
    model = fill(Net())
    optimizer = SO(model.parameters(), lr=1e-3, density_ratio=0.1)
    before = picture(model, optimizer)
    weights = copy.deepcopy(model.state_dict())
    sampling = optimizer.sample_gradients(model, memory=memory)
    assert picture(model, optimizer) != before
    sampling.undo()
    assert picture(model, optimizer) == before
    torch.testing.assert_close(model.state_dict(), weights, rtol=0, atol=0)
    assert repr(sampling) == "Sampling(undone)"
    sampling.undo()  # a second time does nothing
    assert picture(model, optimizer) == before


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("steps", [0, 1, 4, 5, 7])
def test_training_goes_on_as_if_never_sampled(fill, rng, steps, memory):
    """T is 5: before, at and after the end of a support."""
    plain = fill(Net())
    sampled = copy.deepcopy(plain)
    start = copy.deepcopy(rng.get_state())
    settings = {"lr": 1e-3, "density_ratio": 0.1, "T": 5}
    drop_in = SO(plain.parameters(), **settings)
    train(plain, drop_in, rng, steps)
    train(plain, drop_in, rng, 8)
    rng.set_state(start)
    optimizer = SO(sampled.parameters(), **settings)
    with optimizer.sample_gradients(sampled, memory=memory):
        train(sampled, optimizer, rng, steps)
    train(sampled, optimizer, rng, 8)
    for (name, ours), theirs in zip(sampled.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12, msg=name)


def test_undo_without_steps_is_bit_for_bit(fill, rng):
    plain = fill(Net(), torch.float32)
    sampled = copy.deepcopy(plain)
    start = rng.get_state()
    for model in (plain, sampled):
        rng.set_state(start)
        optimizer = SO(model.parameters(), lr=1e-3, density_ratio=0.1, T=3)
        train(model, optimizer, rng, 4)
        if model is sampled:
            optimizer.sample_gradients(model).undo()
        train(model, optimizer, rng, 7)
    torch.testing.assert_close(sampled.state_dict(), plain.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("memory", MEMORY)
def test_gradients_that_wait_for_a_step_go_along(fill, rng, memory):
    """An accumulation may begin before sampling, go on within, and end after it."""
    plain = fill(Net())
    sampled = copy.deepcopy(plain)
    start = rng.get_state()
    for model in (plain, sampled):
        rng.set_state(start)
        optimizer = SO(model.parameters(), lr=1e-3, density_ratio=0.1, T=3)
        train(model, optimizer, rng, 3, stop_before_step=True)
        sampling = optimizer.sample_gradients(model, memory=memory) if model is sampled else None
        train(model, optimizer, rng, 1, stop_before_step=True)
        if sampling:
            sampling.undo()
            assert model.embedding.weight.grad.count_nonzero() <= 8
        optimizer.step()
        optimizer.zero_grad()
        train(model, optimizer, rng, 5)
    for (name, ours), theirs in zip(sampled.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12, msg=name)


def test_a_body_that_raises_is_undone_too(fill, rng):
    model = fill(Net())
    optimizer = SO(model.parameters(), density_ratio=0.1)
    before = picture(model, optimizer)
    with pytest.raises(IndexError), optimizer.sample_gradients(model):
        model(torch.tensor([[99]]))  # no such token
    assert picture(model, optimizer) == before


def test_sampling_again_after_undo(fill, rng):
    model = fill(Net())
    optimizer = SO(model.parameters(), density_ratio=0.1)
    before = picture(model, optimizer)
    for memory in (*MEMORY, "free"):
        with optimizer.sample_gradients(model, memory=memory):
            train(model, optimizer, rng, 2)
        assert picture(model, optimizer) == before
    other = SO(model.parameters(), density_ratio=0.3)
    with other.sample_gradients(model):
        train(model, other, rng, 2)
    assert picture(model, other)["parameters"] == before["parameters"]


@pytest.mark.parametrize("memory", MEMORY)
def test_a_sampled_model_looks_as_before(fill, rng, memory):
    model = fill(Net())
    plain = copy.deepcopy(model)
    optimizer = SO(model.parameters(), density_ratio=0.1)
    optimizer.sample_gradients(model, memory=memory)
    assert repr(model) == repr(plain)
    assert list(model.state_dict()) == list(plain.state_dict())
    torch.testing.assert_close(model.state_dict(), plain.state_dict(), rtol=0, atol=0)
    for ours, theirs in zip(model.modules(), plain.modules(), strict=True):
        assert isinstance(ours, type(theirs))
        assert type(ours).__name__ == type(theirs).__name__
        assert type(ours).__module__ == type(theirs).__module__
        assert type(ours).__qualname__ == type(theirs).__qualname__
    added = {name for name, _ in model.named_parameters()} - {
        n for n, _ in plain.named_parameters()
    }
    assert all(name.endswith("_at_support") for name in added)
    train(model, optimizer, rng, 3)
    plain.load_state_dict(model.state_dict())
    model.load_state_dict(plain.state_dict())


def matrices(model):
    return [p for p in model.parameters() if p.ndim == 2]


@pytest.mark.parametrize("assign", [False, True])
def test_loading_weights_while_sampled(fill, rng, assign):
    """Matrices alone: of what is not sampled, `assign` takes the optimizer's tensors away."""
    model, other = fill(Net()), fill(Net())
    twin = copy.deepcopy(other)
    optimizer = SO(matrices(model), lr=1e-3, density_ratio=0.1)
    sampling = optimizer.sample_gradients(model)
    model.load_state_dict(copy.deepcopy(other.state_dict()), assign=assign)
    if assign:  # torch unties what it assigns
        model.decoder._parameters["weight"] = model.embedding._parameters["weight"]
    start = rng.get_state()
    train(model, optimizer, rng, 3)
    rng.set_state(start)
    train(twin, SO(matrices(twin), lr=1e-3, density_ratio=0.1), rng, 3)
    for (name, ours), theirs in zip(
        model.state_dict().items(), twin.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12, msg=name)
    assert "?" not in repr(sampling)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
@pytest.mark.parametrize("memory", MEMORY)
def test_copies_train_alike(fill, rng, memory, copied):
    model = fill(Net())
    optimizer = SO(model.parameters(), lr=1e-3, density_ratio=0.1, T=2)
    optimizer.sample_gradients(model, memory=memory)
    train(model, optimizer, rng, 3)
    twin, theirs = copied((model, optimizer))
    start = rng.get_state()
    train(model, optimizer, rng, 5)
    rng.set_state(start)
    train(twin, theirs, rng, 5)
    torch.testing.assert_close(model.state_dict(), twin.state_dict(), rtol=0, atol=0)


REPR = """\
Sampling(memory='free', 6 weights)
  mix: 4 of 48, dense gradient, gathered
  embedding.weight: 8 of 88, sampled as Embedding and sampled as Linear, keeps its input
  attention.in_proj_weight: 19 of 192, sampled as Attention, keeps {norm}
  attention.out_proj.weight: 6 of 64, sampled as Linear, keeps nothing (its producer keeps it)
  mlp.c_fc.weight: 9 of 96, sampled as Linear, keeps the activation's input
  mlp.c_proj.weight: 9 of 96, sampled as Linear, keeps the activation's input"""


def test_repr_names_every_weight_with_its_path(fill, rng):
    model = fill(Net())
    optimizer = SO(model.parameters(), density_ratio=0.1)
    sampling = optimizer.sample_gradients(model)
    assert "keeps" not in repr(sampling)  # nothing was kept yet
    train(model, optimizer, rng, 1)
    assert repr(sampling) == REPR.format(norm="nothing (rebuilt from the LayerNorm input)")


@pytest.mark.parametrize("how", ["copied", "cast and back"])
def test_weights_of_a_model_that_moved_lie_side_by_side_again(how):
    model = nn.Sequential(nn.Linear(20, 30), nn.GELU(), nn.Linear(30, 20))
    optimizer = SO(model.parameters(), density_ratio=0.05)
    optimizer.sample_gradients(model)
    if how == "copied":
        model, optimizer = copy.deepcopy((model, optimizer))
    else:
        model.double().float()
    for _ in range(2):
        model(torch.ones(2, 20)).square().sum().backward()
        optimizer.step()
    weights = [model[i]._parameters["weight"] for i in (0, 2)]
    assert len({weight.untyped_storage().data_ptr() for weight in weights}) == 1
