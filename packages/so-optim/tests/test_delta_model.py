"""Which model a delta fits: tied and added tensors, and every other model refused."""

import runpy
from pathlib import Path

import pytest
import torch

from so_optim.delta import Delta

safetensors = pytest.importorskip("safetensors")
pytest.importorskip("safetensors.torch")

BITS = runpy.run_path(str(Path(__file__).parent / "delta_bits.py"))
clones, same = (BITS[name] for name in ("clones", "same"))


class Pair(torch.nn.Module):
    """Two matrices, tied on demand, and a counting buffer."""

    def __init__(self, tied=False, head=False):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.embed = torch.nn.Parameter(torch.randn(12, 5, generator=generator))
        self.decode = self.embed if tied else torch.nn.Parameter(self.embed.detach().clone())
        self.register_buffer("count", torch.tensor(0))
        if head:
            self.head = torch.nn.Linear(5, 2)

    def trained(self):
        with torch.no_grad():
            self.embed[3, 4] = float("nan")
            self.embed[0, 0] = -0.0
        self.count += 1
        return self


def test_tied_weights_are_stored_and_flipped_once(tmp_path):
    base, new = Pair(tied=True), Pair(tied=True).trained()
    delta = Delta.between(base, new)
    assert delta.describe()["changed"] == 3
    assert delta.describe()["tensors"]["embed"]["names"] == ("embed", "decode")
    delta.save(tmp_path / "d")
    for model in (Pair(tied=True), Pair(tied=True).state_dict(), clones(base.state_dict())):
        state = model.state_dict() if isinstance(model, torch.nn.Module) else model
        Delta.load(tmp_path / "d").apply(model)
        assert same(state, new.state_dict())
        delta.revert(model)
        assert same(state, base.state_dict())


def test_a_base_file_keeps_tied_weights_under_one_name(tmp_path):
    state = Pair(tied=True).state_dict()
    del state["decode"]
    safetensors.torch.save_file(state, tmp_path / "base")
    new = Pair(tied=True).trained()
    delta = Delta.between(tmp_path / "base", new)
    assert delta.describe()["changed"] == 3
    delta.revert(new)
    assert same(new.state_dict(), Pair(tied=True).state_dict())


def test_the_new_weights_may_know_tied_weights_by_one_name():
    new = Pair(tied=True).trained().state_dict()
    del new["embed"]
    model = Pair(tied=True)
    Delta.between(model, new).apply(model)
    assert same(model.state_dict(), Pair(tied=True).trained().state_dict())


def test_weights_that_training_untied_refuse_a_tied_model():
    delta = Delta.between(Pair(tied=True), Pair().trained())
    model = Pair()
    delta.apply(model)
    assert same(model.state_dict(), Pair().trained().state_dict())
    tied = Pair(tied=True)
    with pytest.raises(ValueError, match="'decode' and 'embed' in the same memory"):
        delta.apply(tied)
    assert same(tied.state_dict(), Pair(tied=True).state_dict())


def test_weights_that_training_tied_count_for_each_name():
    base = Pair().state_dict()
    base["decode"] = base["decode"] + 1
    new = Pair(tied=True).trained().state_dict()
    model = clones(base)
    delta = Delta.between(base, new)
    delta.apply(model)
    assert same(model, new)
    delta.revert(model)
    assert same(model, base)


def test_a_tensor_that_the_base_lacks_is_stored_whole(tmp_path):
    base, new = Pair(), Pair(head=True).trained()
    Delta.between(base, new).save(tmp_path / "d")
    delta = Delta.load(tmp_path / "d")
    assert delta.describe()["tensors"]["head.weight"]["new"]
    state = clones(base.state_dict())
    delta.apply(state)
    assert same(state, new.state_dict())
    delta.revert(state)
    assert same(state, base.state_dict())
    model = Pair(head=True)
    delta.apply(model)
    assert same(model.state_dict(), new.state_dict())
    delta.revert(model)
    assert torch.equal(model.head.weight, new.head.weight)  # the base has nothing to put there
    for name, tensor in base.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)
    with pytest.raises(ValueError, match=r"no tensor 'head\.weight' that can be filled"):
        delta.apply(base)


def test_added_tensors_share_nothing_with_the_delta():
    delta = Delta.between({}, {"head": torch.ones(3)})
    first, second = {}, {}
    delta.apply(first)
    first["head"].zero_()
    delta.apply(second)
    assert second["head"].tolist() == [1, 1, 1]


def test_models_on_another_device(device):
    base, new = Pair(), Pair().trained()
    model = Pair().to(device)
    delta = Delta.between(base, new.to(device))
    assert delta.base == Delta.between(model, new).base
    delta.apply(model)
    assert same(model.state_dict(), new.state_dict())
    delta.revert(model)
    assert same(model.state_dict(), base.state_dict())


def test_autograd_notices_that_weights_changed():
    model = Pair()
    loss = model.embed.square().sum()
    Delta.between(Pair(), Pair().trained()).apply(model)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def differing(kind):
    """A state dict that is not the base of `Pair`, and what the message says."""
    state = clones(Pair().state_dict())
    if kind == "missing":
        del state["decode"]
    elif kind == "unknown":
        state["stranger"] = torch.zeros(2)
    elif kind == "shape":
        state["embed"] = state["embed"].T.contiguous()
    elif kind == "dtype":
        state["decode"] = state["decode"].double()
    elif kind == "content":
        state["embed"][5, 1] += 1
    elif kind == "prefix":
        state = {f"module.{name}": tensor for name, tensor in state.items()}
    return state


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "model lacks tensor 'decode'"),
        ("unknown", "model has tensor 'stranger'"),
        ("shape", r"model has shape \(5, 12\) in 'embed' but the delta \(12, 5\)"),
        ("dtype", "model has dtype torch.float64 in 'decode' but the delta torch.float32"),
        ("content", "model has other content in 'embed'"),
        ("prefix", r"lacks tensor 'embed'.*closest name is 'module\.embed'"),
    ],
)
def test_another_base_is_refused_and_left_alone(kind, message):
    delta = Delta.between(Pair(), Pair().trained())
    model = differing(kind)
    before = clones(model)
    with pytest.raises(ValueError, match=message):
        delta.apply(model)
    assert same(model, before)


def test_applying_and_reverting_twice_are_refused():
    delta, model = Delta.between(Pair(), Pair().trained()), Pair()
    with pytest.raises(ValueError, match="not applied, call apply first"):
        delta.revert(model)
    delta.apply(model)
    with pytest.raises(ValueError, match="applied already"):
        delta.apply(model)
    assert same(model.state_dict(), Pair().trained().state_dict())
    delta.revert(model)
    with pytest.raises(ValueError, match="not applied"):
        delta.revert(model)


def test_reverting_what_was_trained_on_is_refused():
    delta, model = Delta.between(Pair(), Pair().trained()), Pair()
    delta.apply(model)
    with torch.no_grad():
        model.embed[7, 1] += 1
    with pytest.raises(ValueError, match="has changed in 'embed' since"):
        delta.revert(model)


def test_other_bad_arguments_are_refused():
    delta = Delta.between(Pair(), Pair().trained())
    with pytest.raises(ValueError, match="model must be a module or a state dict"):
        delta.apply([1])
    with pytest.raises(ValueError, match="name must be a tensor of the model but is 'nowhere'"):
        delta.positions("nowhere")
    expanded = {"w": torch.zeros(1).expand(4)}
    spread = Delta.between(expanded, {"w": torch.arange(4.0)})
    with pytest.raises(ValueError, match="clone it first"):
        spread.apply(expanded)


def test_a_model_whose_state_dict_copies_is_refused():
    model = Pair()
    model.register_state_dict_post_hook(
        lambda module, state, prefix, local: state.update(clones(state))
    )
    with pytest.raises(ValueError, match="can be filled in place"):
        Delta.between(model, Pair().trained()).apply(model)


def test_extra_state_that_is_no_tensor_is_ignored():
    base = {"w": torch.zeros(3), "_extra_state": {"version": 1}}
    delta = Delta.between(base, {"w": torch.ones(3)})
    delta.apply(base)
    assert base["w"].tolist() == [1, 1, 1]
    assert base["_extra_state"] == {"version": 1}
