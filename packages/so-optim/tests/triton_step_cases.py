"""Cases of the packed step; test_triton.py runs them with TRITON_INTERPRET=1."""

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import nn

from so_optim import SO
from so_optim.kernels import step as triton_step
from so_optim.kernels.step import packed_step_triton
from so_optim.packed.launch import can_launch

ADAM = {"lr": 1e-2, "betas": (0.9, 0.999), "eps": 1e-8}
# 0 / 0 of slots that nobody owns, whose result is not used.
pytestmark = pytest.mark.filterwarnings("ignore:.*invalid value:RuntimeWarning")


SLOTS = 64  # slots in a block: few, so that small members have several


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(triton_step, "SLOTS", SLOTS)


class Members:
    """Slots of several members as `packed.window` keeps them, and one vector of weights."""

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
        self.moments = self.random(2, 2, total)
        self.moments[1].square_()
        nobody = torch.rand(2, total, generator=self.rng) < 0.5
        self.moments[0, nobody], self.moments[1, nobody] = 0.0, -0.0
        # A slot of row 0 that nobody owns may name a place of row 1.
        self.positions[0] = torch.where(nobody[0], self.positions[1], self.positions[0])
        full = self.random(3 * total)
        self.weight = full.to(weight)
        self.start = self.weight.clone()
        self.value = None if weight == torch.float32 else full[self.positions.long()]
        self.steps = 0

    def random(self, *shape):
        return self.draw(*shape, generator=self.rng)

    def clone(self):
        twin = object.__new__(Members)
        for name, held in vars(self).items():
            setattr(twin, name, held.clone() if isinstance(held, torch.Tensor) else held)
        return twin

    def owned(self):
        return ~self.moments[1].signbit()

    def corrections(self, betas=ADAM["betas"]):
        return 1 - torch.tensor(betas, dtype=torch.float64) ** self.steps

    def step(self, grad, **options):
        self.steps += 1
        arrays = (self.positions, self.moments, grad, self.weight)
        options = {**ADAM, "value": self.value, **options}
        options["corrections"] = self.corrections(options["betas"])
        packed_step_triton(*arrays, self.starts, self.sizes, **options)


def plain_step(members, grad, *, lr=1e-2, betas=(0.9, 0.999), eps=1e-8, prune="after_update"):
    """The twin: one sentence of the algorithm after the other, one member after the other."""
    (beta1, beta2), (m, v) = betas, members.moments
    members.steps += 1
    m.mul_(beta1)
    v.mul_(beta2)
    m[1].add_(grad, alpha=1 - beta1)
    v[1].addcmul_(grad, grad, value=1 - beta2)
    first, second = members.corrections(betas)
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
    kept = found.owned()
    assert torch.equal(kept, twin.owned())
    near = units * torch.finfo(torch.float32).eps
    torch.testing.assert_close(found.moments, twin.moments, rtol=near, atol=0)
    # A weight may be smaller than what was added to it, and is as inexact as that.
    ends = twin.weight.float()
    size = torch.maximum(ends.abs(), (ends - twin.start.float()).abs())
    assert ((found.weight.float() - ends).abs() <= near * size + units * 1e-8).all()
    if found.value is not None:
        torch.testing.assert_close(found.value[kept], twin.value[kept], rtol=near, atol=1e-8)


@given(
    sizes=st.lists(
        st.sampled_from([1, 2, 3, 17, SLOTS - 1, SLOTS, SLOTS + 1, 100]), min_size=1, max_size=3
    ),
    prune=st.sampled_from(["after_update", "before_update"]),
    index=st.sampled_from([torch.int32, torch.int64]),
    seed=st.integers(0, 2**31),
)
# Shrinking would take minutes here.
@settings(max_examples=8, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
def test_several_steps_equal_the_twin(sizes, prune, index, seed):
    found = Members(sizes, seed=seed, index=index)
    twin = found.clone()
    for _ in range(2):
        grad = found.random(sum(sizes))
        found.step(grad, prune=prune)
        plain_step(twin, grad, prune=prune)
        assert_same(found, twin, units=3)


@pytest.mark.parametrize("slots", [64, 256, 1024])
def test_one_step_to_two_units(slots, monkeypatch):
    """One for the root, which not every CPU's torch rounds correctly, one for the rest."""
    monkeypatch.setattr(triton_step, "SLOTS", slots)
    found = Members([700])
    twin, grad = found.clone(), found.random(700)
    found.step(grad)
    plain_step(twin, grad)
    assert_same(found, twin, units=2)


def coarse(*shape, generator):
    """Numbers with many equals, and no rounding in the moments of betas 1/2."""
    return torch.randint(-2, 3, shape, generator=generator) / 4


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("prune", ["after_update", "before_update"])
def test_ties_go_to_row_0_and_then_to_the_lower_slot(seed, prune):
    sizes = [1, 7, SLOTS + 5]
    found = Members(sizes, seed=seed, draw=coarse)
    twin, exact = found.clone(), {"betas": (0.5, 0.5), "prune": prune}
    for _ in range(3):
        grad = found.random(sum(sizes))
        found.step(grad, **exact)
        plain_step(twin, grad, **exact)
        assert torch.equal(found.moments, twin.moments)
        assert torch.equal(found.owned(), twin.owned())
        torch.testing.assert_close(found.weight, twin.weight, rtol=1e-6, atol=1e-8)


def test_every_member_keeps_exactly_k():
    sizes = [1, 5, SLOTS + 1]
    members = Members(sizes, draw=coarse)
    members.step(members.random(sum(sizes)))
    kept = members.owned()
    assert [int(part.sum()) for part in kept.split(sizes, dim=1)] == sizes
    assert (members.moments[:, ~kept] == 0).all()


def test_no_gradient_at_all_keeps_what_is_owned():
    members = Members([40])
    members.moments[0], members.moments[1] = 0.0, -0.0  # as at the very first step
    before = members.weight.clone()
    members.step(torch.zeros(40))
    assert members.owned()[1].all()
    assert not members.owned()[0].any()
    assert torch.equal(members.weight, before)


def test_only_owned_slots_move_their_weights():
    members = Members([60, 9])
    owned = members.owned()
    owned[1] = True
    before = members.weight.clone()
    members.step(members.random(69))
    changed = (members.weight != before).nonzero().flatten()
    assert set(changed.tolist()) <= set(members.positions[owned].tolist())
    assert len(changed) > 69


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("prune", ["after_update", "before_update"])
def test_narrow_weights_follow_their_wide_values(dtype, prune):
    found = Members([30, 50], weight=dtype)
    twin = found.clone()
    for number in range(4):
        grad = found.random(80)
        if number == 2:  # somebody else changes weights: theirs win
            found.weight[::2] += 1
            twin.weight[::2] += 1
        found.step(grad, prune=prune)
        plain_step(twin, grad, prune=prune)
        assert_same(found, twin, units=3)


@pytest.mark.parametrize("off", [False, True])
def test_a_step_that_is_off_changes_nothing(off):
    found = Members([30, 5])
    before, twin, grad = found.clone(), found.clone(), found.random(35)
    found.step(grad, off=torch.tensor(off))
    plain_step(twin, grad)
    assert_same(found, before if off else twin, units=1)
    if off:
        assert torch.equal(found.weight, before.weight)
        assert torch.equal(found.moments, before.moments)


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
    assert members.moments.isfinite().all()


def test_an_infinite_moment_is_the_largest():
    members = Members([20])
    grad = members.random(20)
    grad[3] = torch.inf
    members.step(grad)
    assert members.moments[0, 1, 3] == torch.inf


BAD = {
    "positions": {"positions": torch.zeros(2, 4, dtype=torch.int64)},
    "positions is torch.float32": {"positions": torch.zeros(2, 5)},
    "moments": {"moments": torch.zeros(5, 2, 2).permute(2, 1, 0)},
    "moments is torch.float64": {"moments": torch.zeros(2, 2, 5, dtype=torch.float64)},
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
        **{n: getattr(members, n) for n in ("positions", "moments", "weight", "starts", "sizes")},
        "corrections": torch.ones(2),
        **{"grad": torch.zeros(5), **ADAM, **BAD[name]},
    }
    with pytest.raises(ValueError, match=name):
        packed_step_triton(**arguments)


def never(pack):
    return False


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("prune", ["after_update", "before_update"])
def test_training_goes_the_same_way_as_with_the_packed_step(dtype, prune, monkeypatch):
    rng = torch.Generator().manual_seed(0)
    shapes = [(30, 40), (7, 9), (7, 9)]
    grads = [[torch.randn(s, generator=rng).to(dtype) for s in shapes] for _ in range(7)]
    start = torch.randn(sum(a * b for a, b in shapes), generator=rng).to(dtype)
    ends = []
    launched = []
    for kernel in (False, True):
        with_kernel = (lambda pack: launched.append(can_launch(pack)) or True) if kernel else never
        monkeypatch.setattr("so_optim.packed.pack.can_launch", with_kernel)
        one = start.clone()
        weights = one.split([a * b for a, b in shapes])
        params = [nn.Parameter(w.view(s)) for w, s in zip(weights, shapes, strict=True)]
        optimizer = SO(params, lr=1e-2, density_ratio=0.05, T=3, prune=prune)
        for step in grads:
            for param, grad in zip(params, step, strict=True):
                param.grad = grad
            optimizer.step()
        ends.append((one, optimizer.state_dict()["state"]))
    assert launched == [True] * len(grads)  # the interpreter is on, and the settings fit
    (plain, plain_state), (fast, fast_state) = ends
    torch.testing.assert_close(fast, plain, rtol=1e-6, atol=1e-8)
    assert (plain != start).sum() > 60
    for number, state in plain_state.items():
        assert torch.equal(fast_state[number]["kept"], state["kept"])
