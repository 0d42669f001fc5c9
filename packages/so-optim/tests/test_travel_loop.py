"""Training loops around sampled gradients: scaling, clipping, clearing, groups, schedules."""

import copy
import functools

import pytest
import torch
from torch import nn

from so_optim import SO

SETTINGS = {"lr": 1e-2, "density_ratio": 0.05, "T": 3}
ROUNDING = {"rtol": 1e-12, "atol": 1e-12}


def build(dtype=torch.float64, sampled=True, **settings):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mlp = [nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 16), nn.LayerNorm(16)]
        model = nn.Sequential(nn.Embedding(50, 16), *mlp, nn.Linear(16, 5)).to(dtype)
    optimizer = SO(model.parameters(), **{**SETTINGS, **settings})
    if sampled:
        optimizer.sample_gradients(model)
    return model, optimizer


def loss_of(model, number):
    rng = torch.Generator().manual_seed(number)
    out = model(torch.randint(50, (4, 7), generator=rng))
    return out.to(torch.promote_types(out.dtype, torch.float32)).square().mean()


def both(train, dtype=torch.float64, **settings):
    """The weights after training along either path."""
    ended = []
    for sampled in (True, False):
        model, optimizer = build(dtype, sampled, **copy.deepcopy(settings))
        start = copy.deepcopy(model.state_dict())
        train(model, optimizer)
        assert (model.state_dict()["1.weight"] != start["1.weight"]).any()
        ended.append(model.state_dict())
    return ended


AUTOCAST = {
    "fp32": (torch.float32, None, {}),
    "fp64": (torch.float64, None, ROUNDING),
    "fp16": (torch.float32, torch.float16, None),
    "bf16": (torch.float32, torch.bfloat16, None),
}


def assert_same_way(found, expected, start, *, near=0.1):
    """Each weight moved the same way, as a vector.

    Not entry by entry: where a narrow product leaves nothing but rounding of a gradient, Adam
    makes a step of `lr` out of it, and its sign depends on the machine's order of summation.
    """
    for name, weight in expected.items():
        moved = (weight - start[name]).norm()
        assert (found[name] - weight).norm() <= near * moved, name


def scaled(model, optimizer, *, lower, overflow):
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for number in range(8):
        with torch.autocast("cpu", dtype=lower or torch.bfloat16, enabled=lower is not None):
            loss = loss_of(model, number)
        before = copy.deepcopy(model.state_dict())
        scaler.scale(loss * (torch.inf if number == overflow else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        if number == overflow:
            torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert scaler.get_scale() == (1024.0 if overflow is None else 512.0)


@pytest.mark.parametrize("overflow", [None, 0, 3, 4])
@pytest.mark.parametrize("kind", AUTOCAST)
def test_grad_scaler(kind, overflow):
    """An overflow in, at the end of and after a window skips the step and nothing else."""
    dtype, lower, near = AUTOCAST[kind]
    train = functools.partial(scaled, lower=lower, overflow=overflow)
    sampled, plain = both(train, dtype)
    if near is None:
        assert_same_way(sampled, plain, build(dtype)[0].state_dict())
    else:
        torch.testing.assert_close(sampled, plain, **near)


def test_leaves_of_fp16_weights_can_be_unscaled():
    """GradScaler refuses fp16 gradients; those of leaves are fp32."""
    model, _ = build(torch.float16, sampled=False)
    optimizer = SO([p for p in model.parameters() if p.ndim == 2], **SETTINGS)
    start = copy.deepcopy(model.state_dict())
    optimizer.sample_gradients(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    scaler.scale(loss_of(model, 0)).backward()
    scaler.step(optimizer)
    assert (model.state_dict()["1.weight"] != start["1.weight"]).any()


def values_of(optimizer):
    return [p for group in optimizer.param_groups for p in group["params"]]


def test_clipping_sees_the_k_values():
    model, optimizer = build()
    loss_of(model, 0).backward()
    grads = [p.grad.clone() for p in values_of(optimizer)]
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    torch.testing.assert_close(norm, torch.cat([g.flatten() for g in grads]).norm())
    for param, grad in zip(values_of(optimizer), grads, strict=True):
        torch.testing.assert_close(param.grad, grad * (1e-3 / norm), rtol=1e-2, atol=0)


def test_clipping_by_value_is_the_same_on_either_path():
    """Entries are clipped one by one, so it does not matter which others exist."""

    def train(model, optimizer):
        for number in range(8):
            loss_of(model, number).backward()
            nn.utils.clip_grad_value_(model.parameters(), 1e-4)
            optimizer.step()
            optimizer.zero_grad()

    torch.testing.assert_close(*both(train), **ROUNDING)


@pytest.mark.parametrize("clear", ["none", "zeros", "model"])
@pytest.mark.parametrize("parts", [1, 3])
def test_clearing_and_accumulating(clear, parts):
    def train(model, optimizer):
        for number in range(8):
            for part in range(parts):
                (loss_of(model, 10 * number + part) / parts).backward()
            optimizer.step()
            if clear == "model":  # as Hugging Face's Trainer does
                model.zero_grad()
            else:
                optimizer.zero_grad(set_to_none=clear == "none")

    torch.testing.assert_close(*both(train), **ROUNDING)


def test_gradients_are_only_read():
    model, optimizer = build()
    loss_of(model, 0).backward()
    before = [p.grad.clone() for p in values_of(optimizer)]
    optimizer.step()
    for param, grad in zip(values_of(optimizer), before, strict=True):
        torch.testing.assert_close(param.grad, grad, rtol=0, atol=0)


def test_leaves_stay_zero():
    model, optimizer = build(weight_decay=0.1, decoupled_weight_decay=True)
    for number in range(5):
        loss_of(model, number).backward()
        optimizer.step()
        optimizer.zero_grad()
    leaves = {n: p for n, p in model.named_parameters() if n.endswith("_at_support")}
    assert len(leaves) == 4
    assert all((leaf == 0).all() for leaf in leaves.values())


def test_a_group_added_after_sampling():
    """Its weights are trained from dense gradients; supports keep their numbers."""
    ended = []
    for sampled in (True, False):
        model, _ = build(sampled=False)
        optimizer = SO([model[1].weight, model[3].weight], **SETTINGS)
        if sampled:
            optimizer.sample_gradients(model)
        for number in range(10):
            if number == 4:
                optimizer.add_param_group({"params": [model[5].weight, model[5].bias], "lr": 0.1})
            loss_of(model, number).backward()
            optimizer.step()
            model.zero_grad()
        ended.append(model.state_dict())
    torch.testing.assert_close(*ended, **ROUNDING)


def schedules():
    schedule = torch.optim.lr_scheduler
    return {
        "cosine": lambda o: schedule.CosineAnnealingLR(o, T_max=8),
        "one cycle": lambda o: schedule.OneCycleLR(o, max_lr=0.1, total_steps=8),
        "warmup": lambda o: schedule.LinearLR(o, start_factor=0.1, total_iters=5),
    }


@pytest.mark.parametrize("name", schedules())
@pytest.mark.parametrize("lr", [1e-2, torch.tensor(1e-2, dtype=torch.float64)])
def test_schedules(name, lr):
    def train(model, optimizer):
        schedule = schedules()[name](optimizer)
        for number in range(8):
            loss_of(model, number).backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()

    torch.testing.assert_close(*both(train, lr=lr), **ROUNDING)


def test_closures():
    def train(model, optimizer):
        for number in range(8):

            def closure(number=number):
                optimizer.zero_grad()
                loss = loss_of(model, number)
                loss.backward()
                return loss

            with torch.no_grad():
                expected = loss_of(model, number)
            torch.testing.assert_close(optimizer.step(closure).detach(), expected)

    torch.testing.assert_close(*both(train), **ROUNDING)


def test_two_optimizers_for_two_halves():
    """One may sample its half; the other then trains its own from dense gradients."""
    ended = []
    for sampled in (True, False):
        model, _ = build(sampled=False)
        first, second = SO([model[1].weight], **SETTINGS), SO([model[3].weight], **SETTINGS)
        if sampled:
            first.sample_gradients(model)
            with pytest.raises(ValueError, match="model is already sampled"):
                second.sample_gradients(model)
        for number in range(8):
            loss_of(model, number).backward()
            first.step()
            second.step()
            model.zero_grad()
        ended.append(model.state_dict())
    torch.testing.assert_close(*ended, **ROUNDING)
