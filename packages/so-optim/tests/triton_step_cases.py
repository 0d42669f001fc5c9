"""Cases of the packed step; test_triton.py runs them with TRITON_INTERPRET=1."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from so_optim import SO
from so_optim.packed import Pack
from so_optim.triton_step import SLOTS, packed_step_triton

ADAM = {"lr": 1e-2, "betas": (0.9, 0.999), "eps": 1e-8}
# 0 / 0 of slots that nobody owns, whose result is not used.
pytestmark = pytest.mark.filterwarnings("ignore:.*invalid value:RuntimeWarning")


class Members:
    """Slots of several members as `so_optim.window` keeps them, and one vector of weights."""

    def __init__(self, sizes, *, seed=0, index=torch.int32, weight=torch.float32, draw=torch.randn):
        self.rng = torch.Generator().manual_seed(seed)
        self.draw = draw
        self.sizes = torch.tensor(sizes)
        self.starts = self.sizes.cumsum(0) - self.sizes
        total = sum(sizes)
        bases = 3 * self.starts
        spots = [
            base + torch.randperm(3 * k, generator=self.rng)[: 2 * k].view(2, k).sort(1).values
            for base, k in zip(bases.tolist(), sizes, strict=True)
        ]
        self.positions = torch.cat(spots, 1).to(index)
        self.exp_avg = self.random(2, total)
        self.exp_avg_sq = self.random(2, total).square()
        nobody = torch.rand(2, total, generator=self.rng) < 0.5
        self.exp_avg[nobody], self.exp_avg_sq[nobody] = 0.0, -0.0
        # A slot of row 0 that nobody owns may name a place of row 1.
        self.positions[0] = torch.where(nobody[0], self.positions[1], self.positions[0])
        full = self.random(3 * total)
        self.weight = full.to(weight)
        self.value = None if weight == torch.float32 else full[self.positions.long()]
        self.steps = torch.zeros((), dtype=torch.float64)

    def random(self, *shape):
        return self.draw(*shape, generator=self.rng)

    def clone(self):
        twin = object.__new__(Members)
        kept = {"rng", "draw"}
        for name, held in vars(self).items():
            setattr(twin, name, held if name in kept or held is None else held.clone())
        return twin

    def step(self, grad, **options):
        self.steps += 1
        arrays = (self.positions, self.exp_avg, self.exp_avg_sq, grad, self.weight)
        options = {**ADAM, "steps": self.steps, "value": self.value, **options}
        packed_step_triton(*arrays, self.starts, self.sizes, **options)


def plain_step(members, grad, *, lr=1e-2, betas=(0.9, 0.999), eps=1e-8, prune="after_update"):
    """The twin: one sentence of the algorithm after the other, one member after the other."""
    (beta1, beta2), m, v = betas, members.exp_avg, members.exp_avg_sq
    members.steps += 1
    m.mul_(beta1)
    v.mul_(beta2)
    m[1].add_(grad, alpha=1 - beta1)
    v[1].addcmul_(grad, grad, value=1 - beta2)
    first = 1 - torch.pow(beta1, members.steps)
    second = 1 - torch.pow(beta2, members.steps)
    move = (m / ((v / second).sqrt() + eps)) * (-lr / first)
    owned = ~v.signbit()
    score = m.abs().masked_fill(~owned, -1.0)
    keep = torch.zeros_like(owned)
    for start, k in zip(members.starts.tolist(), members.sizes.tolist(), strict=True):
        order = score[:, start : start + k].reshape(-1).argsort(descending=True, stable=True)
        kept = torch.zeros(2 * k, dtype=torch.bool).index_fill_(0, order[:k], True)
        keep[:, start : start + k] = kept.view(2, k)
    moves = owned if prune == "after_update" else keep
    at = members.positions[moves].long()
    if members.value is None:
        members.weight[at] += move[moves]
    else:
        now, value = members.weight[at], members.value[moves]
        value = torch.where(value.to(now.dtype) == now, value, now.float()) + move[moves]
        members.value[moves], members.weight[at] = value, value.to(now.dtype)
    m.masked_fill_(~keep, 0.0)
    v.masked_fill_(~keep, -0.0)


def assert_same(found, twin, units):
    """Kept sets exactly; numbers to some units in the last place of the larger operand."""
    kept = ~found.exp_avg_sq.signbit()
    assert torch.equal(kept, ~twin.exp_avg_sq.signbit())
    near = units * torch.finfo(torch.float32).eps
    for name in ("exp_avg", "exp_avg_sq"):
        torch.testing.assert_close(getattr(found, name), getattr(twin, name), rtol=near, atol=0)
    # A move is at most a few lr, and its error a few units of that.
    torch.testing.assert_close(found.weight, twin.weight, rtol=near, atol=units * 1e-8)
    if found.value is not None:
        torch.testing.assert_close(found.value[kept], twin.value[kept], rtol=near, atol=1e-8)


@given(
    sizes=st.lists(
        st.sampled_from([1, 2, 3, 17, 100, SLOTS - 1, SLOTS, SLOTS + 1]), min_size=1, max_size=4
    ),
    prune=st.sampled_from(["after_update", "before_update"]),
    index=st.sampled_from([torch.int32, torch.int64]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=10, deadline=None, derandomize=True)
def test_several_steps_equal_the_twin(sizes, prune, index, seed):
    found = Members(sizes, seed=seed, index=index)
    twin = found.clone()
    for _ in range(3):
        grad = found.random(sum(sizes))
        found.step(grad, prune=prune)
        plain_step(twin, grad, prune=prune)
        assert_same(found, twin, units=3)


@pytest.mark.parametrize("size", [2 * SLOTS, 3 * SLOTS + 5])
def test_one_step_to_a_unit(size):
    found = Members([size])
    twin, grad = found.clone(), found.random(size)
    found.step(grad)
    plain_step(twin, grad)
    assert_same(found, twin, units=1)


def coarse(*shape, generator):
    """Numbers with many equals, and no rounding in the moments of betas 1/2."""
    return torch.randint(-2, 3, shape, generator=generator) / 4


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("prune", ["after_update", "before_update"])
def test_ties_go_to_row_0_and_then_to_the_lower_slot(seed, prune):
    sizes = [1, 7, 50, SLOTS + 30]
    found = Members(sizes, seed=seed, draw=coarse)
    twin, exact = found.clone(), {"betas": (0.5, 0.5), "prune": prune}
    for _ in range(3):
        grad = found.random(sum(sizes))
        found.step(grad, **exact)
        plain_step(twin, grad, **exact)
        assert torch.equal(found.exp_avg, twin.exp_avg)
        assert torch.equal(found.exp_avg_sq.signbit(), twin.exp_avg_sq.signbit())
        torch.testing.assert_close(found.weight, twin.weight, rtol=1e-6, atol=1e-8)


def test_every_member_keeps_exactly_k():
    sizes = [1, 5, 300, SLOTS + 1]
    members = Members(sizes, draw=coarse)
    members.step(members.random(sum(sizes)))
    kept = (~members.exp_avg_sq.signbit()).split(sizes, dim=1)
    assert [int(part.sum()) for part in kept] == sizes
    assert (members.exp_avg[members.exp_avg_sq.signbit()] == 0).all()


def test_no_gradient_at_all_keeps_what_is_owned():
    members = Members([40])
    members.exp_avg_sq[0], members.exp_avg[0] = -0.0, 0.0  # as at the very first step
    before = members.weight.clone()
    members.exp_avg[1] = 0
    members.step(torch.zeros(40))
    assert not members.exp_avg_sq[1].signbit().any()
    assert members.exp_avg_sq[0].signbit().all()
    assert torch.equal(members.weight, before)


def test_only_owned_slots_move_their_weights():
    members = Members([60, 9])
    owned = ~members.exp_avg_sq.signbit()
    owned[1] = True
    before = members.weight.clone()
    members.step(members.random(69))
    changed = (members.weight != before).nonzero().flatten()
    assert set(changed.tolist()) <= set(members.positions[owned].tolist())
    assert len(changed) > 69


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("prune", ["after_update", "before_update"])
def test_narrow_weights_follow_their_wide_values(dtype, prune):
    found = Members([30, 200], weight=dtype)
    twin = found.clone()
    for number in range(4):
        grad = found.random(230)
        if number == 2:  # somebody else changes weights: theirs win
            found.weight[::2] += 1
            twin.weight[::2] += 1
        found.step(grad, prune=prune)
        plain_step(twin, grad, prune=prune)
        assert_same(found, twin, units=3)


@pytest.mark.parametrize("live", [0.0, 1.0])
def test_a_dead_step_changes_nothing(live):
    found = Members([30, 5])
    before, twin, grad = found.clone(), found.clone(), found.random(35)
    found.step(grad, live=torch.tensor(live))
    plain_step(twin, grad)
    expected = twin if live else before
    assert_same(found, expected, units=1)
    if not live:
        assert torch.equal(found.weight, before.weight)
        assert torch.equal(found.exp_avg, before.exp_avg)
        assert torch.equal(found.exp_avg_sq, before.exp_avg_sq)


def test_the_rate_may_be_a_tensor():
    found = Members([30])
    twin, grad = found.clone(), found.random(30)
    found.step(grad, lr=torch.tensor(1e-2, dtype=torch.float64))
    twin.step(grad)
    assert torch.equal(found.weight, twin.weight)


def test_without_epsilon_nobodys_slots_stay_finite():
    members = Members([30])
    members.step(members.random(30), eps=0.0)
    assert members.weight.isfinite().all()
    assert members.exp_avg.isfinite().all()


def test_an_infinite_moment_is_the_largest():
    members = Members([20])
    grad = members.random(20)
    grad[3] = torch.inf
    members.step(grad)
    assert members.exp_avg[1, 3] == torch.inf


BAD = {
    "positions": {"positions": torch.zeros(2, 4, dtype=torch.int64)},
    "positions is torch.float32": {"positions": torch.zeros(2, 5)},
    "exp_avg ": {"exp_avg": torch.zeros(5, 2).T},
    "exp_avg_sq": {"exp_avg_sq": torch.zeros(2, 5, dtype=torch.float64)},
    "grad": {"grad": torch.zeros(5).bfloat16()},
    "weight": {"weight": torch.zeros(4, 4)},
    "value is missing": {"weight": torch.zeros(20).bfloat16()},
    "value is given": {"value": torch.zeros(2, 5)},
    "prune": {"prune": "never"},
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    members = Members([5])
    arguments = {
        **{n: getattr(members, n) for n in ("positions", "exp_avg", "exp_avg_sq", "weight")},
        **{"starts": members.starts, "sizes": members.sizes, "steps": members.steps},
        **{"grad": torch.zeros(5), **ADAM, **BAD[name]},
    }
    with pytest.raises(ValueError, match=name):
        packed_step_triton(**arguments)


def apply_in_one_launch(pack, grad, live=None):
    """What `Pack.apply` does, by the kernel."""
    if pack.opens():
        pack.open_window()
    pack.steps.add_(1)
    slots, group, (sizes, starts, *_) = pack.slots, pack.group, pack.layout.table
    names = ("lr", "betas", "eps", "prune")
    packed_step_triton(
        *(slots.positions, slots.exp_avg, slots.exp_avg_sq, grad, pack.weights.flat, starts, sizes),
        **{name: group[name] for name in names} | {"steps": pack.steps, "value": slots.value},
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("prune", ["after_update", "before_update"])
def test_training_goes_the_same_way_as_with_the_packed_step(dtype, prune, monkeypatch):
    rng = torch.Generator().manual_seed(0)
    shapes = [(30, 40), (7, 9), (64, 20), (7, 9)]
    grads = [[torch.randn(s, generator=rng).to(dtype) for s in shapes] for _ in range(10)]
    start = torch.randn(sum(a * b for a, b in shapes), generator=rng).to(dtype)
    ends = []
    for kernel in (False, True):
        if kernel:
            monkeypatch.setattr(Pack, "apply", apply_in_one_launch)
        one = start.clone()
        weights = one.split([a * b for a, b in shapes])
        params = [nn.Parameter(w.view(s)) for w, s in zip(weights, shapes, strict=True)]
        optimizer = SO(params, lr=1e-2, density_ratio=0.05, T=3, prune=prune)
        for step in grads:
            for param, grad in zip(params, step, strict=True):
                param.grad = grad
            optimizer.step()
        ends.append((one, optimizer.state_dict()["state"]))
    (plain, plain_state), (fast, fast_state) = ends
    torch.testing.assert_close(fast, plain, rtol=1e-6, atol=1e-8)
    assert (plain != start).sum() > 100
    for number, state in plain_state.items():
        assert torch.equal(fast_state[number]["kept"], state["kept"])
