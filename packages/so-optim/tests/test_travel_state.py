"""Round trips while gradients are sampled: state dicts, copies, casts, checkpoints of torch."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.distributed import checkpoint
from torch.distributed.checkpoint import state_dict as dcp

from so_optim import SO

SETTINGS = {"lr": 1e-2, "density_ratio": 0.05, "T": 3}
OTHER = {"seed": 5, "T": 2}  # what loading must overwrite
DTYPES = [torch.bfloat16, torch.float32, torch.float64]
SAVED_AFTER = [0, 1, 3, 4]  # before, in, at the end of and after a window


def build(dtype=torch.float32, sampled=True, **settings):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mlp = [nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 16), nn.LayerNorm(16)]
        model = nn.Sequential(nn.Embedding(50, 16), *mlp, nn.Linear(16, 5)).to(dtype)
    optimizer = SO(model.parameters(), **{**SETTINGS, **settings})
    if sampled:
        optimizer.sample_gradients(model)
    return model, optimizer


def steps(model, optimizer, numbers):
    """Steps on data that depend on the step's number alone."""
    for number in numbers:
        rng = torch.Generator().manual_seed(number)
        tokens = torch.randint(50, (4, 7), generator=rng)
        model(tokens).to(
            torch.promote_types(torch.float32, model[1].bias.dtype)
        ).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def assert_equal(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def saved(thing):
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return buffer.getvalue()


def through_disk(state):
    return torch.load(io.BytesIO(saved(state)), weights_only=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("saved_after", SAVED_AFTER)
@pytest.mark.parametrize("to", ["sampled", "plain"])
@pytest.mark.parametrize("source", ["sampled", "plain"])
def test_either_path_goes_on_with_the_state_of_the_other(source, to, saved_after, dtype):
    first = build(dtype, sampled=source == "sampled")
    second = build(dtype, sampled=to == "sampled", **OTHER)
    steps(*first, range(saved_after))
    for ours, theirs in zip(second, first, strict=True):
        ours.load_state_dict(through_disk(theirs.state_dict()))
    for run in (first, second):
        steps(*run, range(saved_after, saved_after + 8))
    rounding = {"rtol": 1e-12, "atol": 1e-12} if dtype == torch.float64 else {}
    if source == to:
        rounding = {"rtol": 0, "atol": 0}
    torch.testing.assert_close(second[0].state_dict(), first[0].state_dict(), **rounding)


def copied(pair):
    return copy.deepcopy(pair)


def pickled(pair):
    return pickle.loads(pickle.dumps(pair))


@pytest.mark.parametrize("duplicate", [copied, pickled])
@pytest.mark.parametrize("saved_after", SAVED_AFTER)
def test_a_copied_pair_goes_on_by_itself(duplicate, saved_after):
    first = build()
    steps(*first, range(saved_after))
    second = duplicate(first)
    before = copy.deepcopy(first[0].state_dict())
    steps(*second, range(saved_after, saved_after + 8))
    assert_equal(first[0].state_dict(), before)
    steps(*first, range(saved_after, saved_after + 8))
    assert_equal(second[0].state_dict(), first[0].state_dict())
    assert (first[0].state_dict()["1.weight"] != build()[0].state_dict()["1.weight"]).any()


@pytest.mark.parametrize("write", [pickle.dumps, saved])
def test_a_pickle_holds_every_weight_once(write):
    sampled, plain = build()[0], build(sampled=False)[0]
    assert len(write(sampled)) < len(write(plain)) + 8000  # names of classes, supports, leaves
    assert len(write(sampled[1])) < len(write(plain[1])) + 3000  # nothing of its neighbours


def test_tied_weights_stay_tied_in_a_copy():
    model = nn.Sequential(nn.Embedding(30, 8), nn.Linear(8, 30, bias=False))
    model[1].weight = model[0].weight
    optimizer = SO(model.parameters(), **SETTINGS)
    optimizer.sample_gradients(model)
    for duplicate in (copied, pickled):
        other, _ = duplicate((model, optimizer))
        assert other[0]._parameters["weight"] is other[1]._parameters["weight"]


def another_state():
    return {name: value + 0.1 for name, value in build(sampled=False)[0].state_dict().items()}


def test_loading_weights_midway():
    """Strictly, from a plain model; training goes on from there."""
    sampled, plain = build(), build(sampled=False)
    for run in (sampled, plain):
        steps(*run, range(4))
        run[0].load_state_dict(another_state())
        steps(*run, range(4, 10))
    assert sampled[0].state_dict().keys() == plain[0].state_dict().keys()
    torch.testing.assert_close(sampled[0].state_dict(), plain[0].state_dict())


def test_assigning_weights_midway():
    """By torch's rule an optimizer keeps the tensors it has; a leaf follows its module."""
    model, optimizer = build()
    steps(model, optimizer, range(4))
    model.load_state_dict(another_state(), assign=True)
    steps(model, optimizer, range(4, 10))
    moved = {n for n, v in model.state_dict().items() if (v != another_state()[n]).any()}
    assert moved == {"0.weight", "1.weight", "3.weight", "5.weight"}


def test_an_unknown_name_is_still_refused():
    model, _ = build()
    state = dict(model.state_dict())
    del state["1.weight"]
    with pytest.raises(RuntimeError, match=r'Missing key.*"1\.weight"'):
        model.load_state_dict(state)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_casting_midway(dtype):
    sampled, plain = build(), build(sampled=False)
    for run in (sampled, plain):
        steps(*run, range(4))
        run[0].to(dtype)
        steps(*run, range(4, 10))
    wide = torch.promote_types(dtype, torch.float32)
    leaves = [p for name, p in sampled[0].named_parameters() if name.endswith("_at_support")]
    assert {leaf.dtype for leaf in leaves} == {wide}  # sums over tokens are never narrow
    near = {} if dtype != torch.float64 else {"rtol": 1e-5, "atol": 1e-6}  # four fp32 steps before
    torch.testing.assert_close(sampled[0].state_dict(), plain[0].state_dict(), **near)


def test_evaluating_needs_nothing_of_it():
    sampled, plain = build(), build(sampled=False)
    tokens = torch.arange(21).view(3, 7)
    for model, _ in (sampled, plain):
        model.eval()
    with torch.no_grad():
        assert_equal(sampled[0](tokens), plain[0](tokens))
        assert sampled[0][1].weight is sampled[0]._modules["1"]._parameters["weight"]
    with torch.inference_mode():
        assert_equal(sampled[0](tokens), plain[0](tokens))


def test_a_state_dict_is_the_model_not_a_copy():
    model, _ = build()
    with torch.no_grad():
        model.state_dict()["1.weight"].fill_(3.0)
    assert (model[1]._parameters["weight"] == 3).all()
    assert model.state_dict(keep_vars=True)["1.weight"] is model[1]._parameters["weight"]


def test_every_weight_is_saved_by_itself(tmp_path):
    """Weights that share memory would be dropped by safetensors, or written once per name."""
    safetensors = pytest.importorskip("safetensors.torch")
    model, optimizer = build()
    steps(model, optimizer, range(2))
    for value in model.state_dict().values():
        assert value.untyped_storage().nbytes() == value.nbytes
    safetensors.save_file(model.state_dict(), tmp_path / "file")
    assert_equal(safetensors.load_file(tmp_path / "file"), dict(model.state_dict()))
    safetensors.save_model(model, str(tmp_path / "model"))
    for fresh in (build()[0], build(sampled=False)[0]):
        safetensors.load_model(fresh, str(tmp_path / "model"))
        assert_equal(fresh.state_dict(), model.state_dict())


def test_tied_weights_are_saved_once(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    model = nn.Sequential(nn.Embedding(30, 8), nn.Linear(8, 8), nn.Linear(8, 30, bias=False))
    model[2].weight = model[0].weight
    SO(model.parameters(), **SETTINGS).sample_gradients(model)
    state = model.state_dict()
    assert state["0.weight"].data_ptr() == state["2.weight"].data_ptr()
    safetensors.save_model(model, str(tmp_path / "model"))
    assert len(safetensors.load_file(tmp_path / "model")) == len(state) - 1
    loaded = through_disk(state)
    assert loaded["0.weight"].data_ptr() == loaded["2.weight"].data_ptr()


@pytest.mark.filterwarnings("ignore:torch.distributed is")
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("saved_after", SAVED_AFTER)
@pytest.mark.parametrize("sampled", [False, True])
def test_torchs_checkpoints_go_on_bit_for_bit(tmp_path, sampled, saved_after, flat):
    options = dcp.StateDictOptions(flatten_optimizer_state_dict=flat)
    first, second = build(sampled=sampled), build(sampled=sampled, **OTHER)
    steps(*first, range(saved_after))
    checkpoint.save(
        dict(zip("mo", dcp.get_state_dict(*first, options=options), strict=True)),
        checkpoint_id=tmp_path,
    )
    loaded = dict(zip("mo", dcp.get_state_dict(*second, options=options), strict=True))
    checkpoint.load(loaded, checkpoint_id=tmp_path)
    dcp.set_state_dict(
        *second, model_state_dict=loaded["m"], optim_state_dict=loaded["o"], options=options
    )
    for run in (first, second):
        steps(*run, range(saved_after, saved_after + 8))
    assert_equal(second[0].state_dict(), first[0].state_dict())


def test_torchs_checkpoints_are_by_name():
    """That of a leaf is not its weight's: sample before loading what a sampled run saved."""
    plain, sampled = build(sampled=False), build()
    steps(*plain, range(4))
    saved = dcp.get_optimizer_state_dict(*plain)
    with pytest.raises(RuntimeError, match=r"state for parameter '0\.weight_at_support'"):
        dcp.set_optimizer_state_dict(*sampled, saved)


def test_torchs_checkpoints_and_undo():
    """A checkpoint of a plain run: load it first, sample then."""
    plain, other = build(sampled=False), build(sampled=False)
    steps(*plain, range(4))
    dcp.set_optimizer_state_dict(*other, dcp.get_optimizer_state_dict(*plain))
    other[0].load_state_dict(plain[0].state_dict())
    sampling = other[1].sample_gradients(other[0])
    for run in (plain, other):
        steps(*run, range(4, 9))
    sampling.undo()
    for run in (plain, other):
        steps(*run, range(9, 14))
    torch.testing.assert_close(other[0].state_dict(), plain[0].state_dict())
    names = dcp.get_optimizer_state_dict(*other)["state"]
    assert set(names) == {name for name, _ in plain[0].named_parameters()}
