"""A run that was saved continues bit for bit; a state of something else is refused."""

import copy
import io
import pickle

import pytest
import torch
import torch.distributed.checkpoint.state_dict as dcp

from so_optim import SO

SHAPES = [(30, 20), (9, 11), (7,), (), (2, 3, 4)]
SETTINGS = {"lr": 0.05, "density_ratio": 0.03, "T": 4, "weight_decay": 0.1, "seed": 9}


def steps(optimizers, numbers, shapes=SHAPES):
    """Steps with gradients that depend on the step number alone."""
    for number in numbers:
        generator = torch.Generator().manual_seed(number)
        grads = [torch.randn(shape, generator=generator) for shape in shapes]
        for optimizer in optimizers:
            for weight, grad in zip(weights_of(optimizer), grads, strict=True):
                weight.grad = grad.to(weight)
            optimizer.step()


def weights_of(optimizer):
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def through_disk(optimizer, fresh):
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    return fresh


def in_memory(optimizer, fresh):
    fresh.load_state_dict(optimizer.state_dict())
    return fresh


def deep_copied(optimizer, fresh):
    return copy.deepcopy(optimizer)


def pickled(optimizer, fresh):
    return pickle.loads(pickle.dumps(optimizer))


ROUND_TRIPS = [through_disk, in_memory, deep_copied, pickled]


@pytest.mark.parametrize("bias_correction", ["global", "per_entry"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("round_trip", ROUND_TRIPS)
@pytest.mark.parametrize("saved_after", [0, 1, 4, 6])
def test_continues_bit_for_bit(make_weights, round_trip, dtype, bias_correction, saved_after):
    original = SO(make_weights(*SHAPES, dtype=dtype), bias_correction=bias_correction, **SETTINGS)
    steps([original], range(saved_after))
    copies = copy.deepcopy(weights_of(original))
    fresh = SO(copies, bias_correction=bias_correction, **{**SETTINGS, "seed": 1, "T": 2})
    restored = round_trip(original, fresh)
    steps([original, restored], range(saved_after, saved_after + 10))
    pairs = zip(weights_of(original), weights_of(restored), strict=True)
    for ours, theirs in pairs:
        assert ours is not theirs
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
        torch.testing.assert_close(original.state[ours], restored.state[theirs], rtol=0, atol=0)


def test_loading_shares_no_memory(make_weights):
    first = SO(make_weights(*SHAPES), **SETTINGS)
    steps([first], range(3))
    saved = first.state_dict()
    frozen = copy.deepcopy(saved)
    second = SO(copy.deepcopy(weights_of(first)), **SETTINGS)
    second.load_state_dict(saved)
    steps([second], range(3, 9))
    torch.testing.assert_close(saved["state"], frozen["state"], rtol=0, atol=0)


def test_indices_survive_a_bf16_parameter(make_weights):
    """torch's loader alone gives 280576 for 279599."""
    (weight,) = make_weights((1000, 700), dtype=torch.bfloat16)
    optimizer = SO([weight], density_ratio=1e-3)
    steps([optimizer], [0], shapes=[(1000, 700)])
    support = optimizer.state[weight]["support"].clone()
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert optimizer.state[weight]["support"].dtype == torch.int64
    assert torch.equal(optimizer.state[weight]["support"], support)
    assert optimizer.state[weight]["exp_avg"].dtype == torch.float32


def test_a_state_moves_to_another_dtype(make_weights):
    first = SO(make_weights(*SHAPES, dtype=torch.bfloat16), **SETTINGS)
    steps([first], range(3))
    wide = [w.detach().double().requires_grad_() for w in weights_of(first)]
    second = SO(wide, **SETTINGS)
    second.load_state_dict(first.state_dict())
    steps([second], range(3, 6))
    assert second.state[wide[0]]["exp_avg"].dtype == torch.float64


def test_distributed_checkpoint_round_trip():
    """DCP fills an empty optimizer by a step with zero gradients and lr 0, then loads over it."""
    linear = torch.nn.Linear(20, 30)
    other = copy.deepcopy(linear)
    start = copy.deepcopy(other.state_dict())
    original, fresh = (SO(m.parameters(), **SETTINGS) for m in (linear, other))
    shapes = [(30, 20), (30,)]
    steps([original], range(6), shapes)
    saved = dcp.get_optimizer_state_dict(linear, original)
    dcp.get_optimizer_state_dict(other, fresh)
    torch.testing.assert_close(other.state_dict(), start, rtol=0, atol=0)
    dcp.set_optimizer_state_dict(other, fresh, saved)
    other.load_state_dict(linear.state_dict())
    steps([original, fresh], range(6, 16), shapes)
    torch.testing.assert_close(linear.state_dict(), other.state_dict(), rtol=0, atol=0)


def test_a_group_saved_before_a_setting_existed_gets_the_default(make_weights):
    optimizer = SO(make_weights(*SHAPES), **SETTINGS)
    saved = optimizer.state_dict()
    for group in saved["param_groups"]:
        del group["nonfinite"]
    optimizer.load_state_dict(saved)
    steps([optimizer], range(2))
    assert optimizer.param_groups[0]["nonfinite"] == "raise"


def refuse(make_weights, match, saved_shapes, shapes, saved_settings=None, **settings):
    saved = SO(make_weights(*saved_shapes), **{**SETTINGS, **(saved_settings or {})})
    steps([saved], range(2), saved_shapes)
    fresh = SO(make_weights(*shapes), **{**SETTINGS, **settings})
    with pytest.raises(ValueError, match=match):
        fresh.load_state_dict(saved.state_dict())
    assert not fresh.state


def test_refuses_another_shape(make_weights):
    refuse(make_weights, r"shape \(4, 6\) for parameter 0 .* \(6, 4\)", [(4, 6)], [(6, 4)])
    refuse(make_weights, r"shape \(5,\) for parameter 1 .* \(6,\)", [(4, 6), (5,)], [(4, 6), (6,)])


def test_refuses_another_density(make_weights):
    refuse(
        make_weights,
        r"density_ratio=0.03 in group 0 but this optimizer has 0.1: build SO with",
        SHAPES,
        SHAPES,
        density_ratio=0.1,
    )


def test_accepts_the_same_density_spelled_otherwise(make_weights):
    saved = SO(make_weights((300, 200)), density_ratio=5e-5)
    fresh = SO(make_weights((300, 200)), density_ratio=1 - 0.99995)
    fresh.load_state_dict(saved.state_dict())


def test_refuses_dense_state_for_a_sparse_weight(make_weights):
    refuse(make_weights, "has dense state for parameter 0", [(4, 6)], [(4, 6)], {"dense": True})
    refuse(make_weights, "has sparse state for parameter 0", [(4, 6)], [(4, 6)], dense=True)


def test_refuses_another_number_of_parameters(make_weights):
    refuse(make_weights, "size of optimizer's group", [(4, 6)], [(4, 6), (4, 6)])


def test_refuses_the_state_of_another_optimizer(make_weights):
    weights = make_weights((4, 6))
    sgd = torch.optim.SGD(weights, momentum=0.9)
    steps([sgd], range(1), [(4, 6)])
    with pytest.raises(ValueError, match="which SO did not save"):
        SO(weights).load_state_dict(sgd.state_dict())
