"""What cannot be sampled is refused by name, and nothing is changed by the refusal."""

import copy
import weakref

import pytest
import torch
from torch import nn

from so_optim import SO

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def model(fill):
    layers = nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3)
    return fill(nn.Sequential(*layers))


def train(model, optimizer, draw, steps=1):
    for _ in range(steps):
        optimizer.zero_grad()
        model(draw(4, 6)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("memory", ["cheap", "Free", None, 1])
def test_memory_names_a_level(model, memory):
    with pytest.raises(
        ValueError, match=r"memory must be one of \['free', 'low', 'minimal'\]"
    ) as e:
        SO(model.parameters()).sample_gradients(model, memory=memory)
    assert repr(memory) in str(e.value)
    assert_plain(model)


def assert_plain(model):
    assert not any(hasattr(type(each), "_so_made_of") for each in model.modules())
    assert all(p.requires_grad for p in model.parameters())
    assert not any(name.endswith("_at_support") for name, _ in model.named_parameters())


def test_a_wrapped_model(model):
    with pytest.raises(ValueError, match=r"wrapped in DataParallel.*plain model first, then wrap"):
        SO(model.parameters()).sample_gradients(nn.DataParallel(model))
    assert_plain(model)


def test_a_model_in_ddp(model, tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1
    )
    try:
        wrapped = nn.parallel.DistributedDataParallel(model)
        with pytest.raises(ValueError, match="wrapped in DistributedDataParallel: sample"):
            SO(model.parameters()).sample_gradients(wrapped)
    finally:
        torch.distributed.destroy_process_group()
    assert_plain(model)


def test_a_sampled_model(model):
    optimizer = SO(model.parameters())
    sampling = optimizer.sample_gradients(model)
    for again in (optimizer, SO([nn.Parameter(torch.zeros(2, 2))])):
        with pytest.raises(ValueError, match=r"already sampled.*call undo\(\)"):
            again.sample_gradients(model)
    sampling.undo()
    optimizer.sample_gradients(model).undo()
    assert_plain(model)


def test_weights_that_the_model_does_not_hold(model, fill):
    optimizer = SO([*model.parameters(), nn.Parameter(torch.zeros(5, 7))])
    with pytest.raises(ValueError, match=r"does not hold 1 of .*\(5, 7\).*pass the model whose"):
        optimizer.sample_gradients(model)
    assert_plain(model)
    with pytest.raises(ValueError, match=r"does not hold 1 of"):
        SO(model.parameters()).sample_gradients(model[:2])
    assert_plain(model)


def test_a_second_optimizer_made_after_sampling(model):
    sampling = SO(model.parameters()).sample_gradients(model)
    for weights in (list(model.parameters()), [dict(model.named_parameters())["3.weight"]]):
        with pytest.raises(ValueError, match=r"parameter \d \(shape .* sampled by another.*undo"):
            SO(weights)
    other = SO([nn.Parameter(torch.zeros(2, 2))])
    with pytest.raises(ValueError, match="sampled by another"):
        other.add_param_group({"params": [dict(model.named_parameters())["0.weight"]]})
    assert len(other.param_groups) == 1
    sampling.undo()
    SO(model.parameters())


def test_a_second_optimizer_made_before_sampling(model, draw):
    first, second = SO(model.parameters()), SO(model.parameters())
    sampling = first.sample_gradients(model)
    model(draw(4, 6)).sum().backward()
    before = copy.deepcopy(list(model.parameters()))
    with pytest.raises(ValueError, match=r"parameter 0 \(shape .* is sampled by another optimizer"):
        second.step()
    torch.testing.assert_close(list(model.parameters()), before, rtol=0, atol=0)
    sampling.undo()
    train(model, second, draw)


def test_a_leaf_in_a_second_optimizer(model):
    SO(model.parameters()).sample_gradients(model)
    leaves = [p for name, p in model.named_parameters() if name.endswith("_at_support")]
    with pytest.raises(
        ValueError, match=r"parameter 0 .*compact leaf of a weight that another.*undo"
    ):
        SO(leaves)


def test_a_weight_thawed_midway(model, draw):
    optimizer = SO(model.parameters(), density_ratio=0.1)
    sampling = optimizer.sample_gradients(model)
    train(model, optimizer, draw, 3)
    before = copy.deepcopy(list(model.parameters()))
    state = copy.deepcopy(optimizer.state_dict()["state"])
    model.requires_grad_(True)
    model(draw(4, 6)).sum().backward()
    with pytest.raises(
        ValueError, match=r"weight of parameter 0 \(shape \(8, 6\)\).*requires_grad_"
    ):
        optimizer.step()
    torch.testing.assert_close(list(model.parameters()), before, rtol=0, atol=0)
    torch.testing.assert_close(optimizer.state_dict()["state"], state, rtol=0, atol=0)
    for leaf in sampling.leaves.values():
        leaf.weight.requires_grad_(False)
    train(model, optimizer, draw)


def test_tied_weights_that_come_apart(fill):
    model = fill(nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5, bias=False)))
    model[1].weight = model[0].weight
    optimizer = SO(model.parameters(), density_ratio=0.1)
    sampling = optimizer.sample_gradients(model)
    model.load_state_dict(model.state_dict(), assign=True)
    model(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(ValueError, match=r"weight of parameter 0 .* shared by 2.*tie it again"):
        optimizer.step()
    model[1]._parameters["weight"] = model[0]._parameters["weight"]
    optimizer.step()
    sampling.undo()
    assert_plain(model)


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("name", ["0.weight", "3.weight", "1.bias"])
def test_a_bad_gradient_raises_and_changes_nothing(model, draw, name, bad, named):
    names = [each for each, _ in model.named_parameters()]
    params = model.named_parameters() if named else model.parameters()
    optimizer = SO(params, density_ratio=0.1, T=2)
    optimizer.sample_gradients(model)
    train(model, optimizer, draw, 3)
    before = copy.deepcopy((list(model.parameters()), optimizer.state_dict()["state"]))
    optimizer.zero_grad()
    model(draw(4, 6)).sum().backward()
    own = dict(model.named_parameters())
    own.get(f"{name}_at_support", own[name]).grad[-1] = bad
    called = rf"{name}, shape" if named else "shape"
    with pytest.raises(ValueError, match=rf"parameter {names.index(name)} \({called}.* NaN or inf"):
        optimizer.step()
    after = list(model.parameters()), optimizer.state_dict()["state"]
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    train(model, optimizer, draw)


def test_a_bad_gradient_can_be_skipped(model, draw, rng):
    """As if the step had not been."""
    twin = copy.deepcopy(model)
    for each, bad in ((model, True), (twin, False)):
        rng.manual_seed(1)
        optimizer = SO(each.parameters(), density_ratio=0.1, T=2, nonfinite="skip")
        optimizer.sample_gradients(each)
        train(each, optimizer, draw, 3)
        if bad:
            (each(torch.ones(4, 6).double()).sum() * NAN).backward()
            optimizer.step()
        train(each, optimizer, draw, 5)
    torch.testing.assert_close(model.state_dict(), twin.state_dict(), rtol=0, atol=0)


def test_nothing_keeps_an_undone_model_alive(fill, draw):
    model = fill(nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3)))
    optimizer = SO(model.parameters(), density_ratio=0.1)
    with optimizer.sample_gradients(model):
        train(model, optimizer, draw, 2)
    gone = weakref.ref(model[0])
    del model, optimizer
    import gc

    gc.collect()
    assert gone() is None
