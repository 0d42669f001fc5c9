"""Merge and threshold equal plain torch to the bit; test_triton.py runs this interpreted."""

import doctest
import importlib
import math

import pytest
import torch

from snell_layers.kernels import triton_count, triton_select
from snell_layers.kernels.triton_entries import FIXED, available
from snell_layers.kernels.triton_merge import GATES, merge_triton
from snell_layers.kernels.triton_select import threshold_triton

# pieces, heads, m, n, dims: one entry, less than a block, one more and one less than a block
SHAPES = [(1, 1, 1, 1, 1), (3, 2, 5, 7, 4), (1, 4, 33, 130, 3), (1, 3, 17, 127, 16)]


def factors(shape, *, trained=False, seed=0, draw=torch.randn):
    pieces, heads, m, n, dims = shape
    rng = torch.Generator().manual_seed(seed)
    inner = draw(pieces, heads, n, dims, generator=rng)
    outer = draw(pieces, heads, m, dims, generator=rng)
    return inner, outer, torch.randn(pieces, heads, generator=rng) if trained else None


def integers(*shape, generator):
    return torch.randint(-1, 2, shape, generator=generator).float()


def plain_entries(inner, outer, scales):
    """The prescribed order of operations, every one of them rounded."""
    w = None
    for head in range(inner.shape[1]):
        squares = None
        for d in range(inner.shape[3]):
            gap = outer[:, head, :, None, d] - inner[:, head, None, :, d]
            squares = gap * gap if squares is None else squares + gap * gap
        inverse = torch.where(squares == 0, 0.0, squares.rsqrt())
        one = squares * inverse
        if scales is not None:
            one = scales[:, head, None, None] * one
        subtracts = scales is None and head % 2 == 1
        w = one if w is None else w - one if subtracts else w + one
    return w * 0.1 if scales is None else w


def plain_update(w, tau, gate):
    magnitude, level = w.abs(), tau[:, None, None]
    value = {"released": w * magnitude, "paper": w * (magnitude - level)}.get(gate, w)
    if gate != "none":
        value = torch.where(magnitude > level, value, 0.0)
    return value.flatten(0, 1)


def ranked(w, rank):
    return w.abs().flatten(1).sort(-1).values[:, rank - 1].contiguous()


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_merge(shape, trained, gate):
    inner, outer, scales = factors(shape, trained=trained)
    w = plain_entries(inner, outer, scales)
    tau = ranked(w, (w[0].numel() + 1) // 2)  # an entry on the threshold is dropped
    update = plain_update(w, tau, gate)
    weight = torch.randn(update.shape, generator=torch.Generator().manual_seed(1))
    arguments = inner, outer, scales, None if gate == "none" else tau
    for base, expected in ((None, update), (weight, weight + update)):
        out = torch.empty_like(update)
        assert merge_triton(*arguments, base, gate, out) is out
        assert torch.equal(out, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_merge_casts_what_it_stores_and_scales_the_update(dtype):
    inner, outer, _ = factors(SHAPES[2])
    w = plain_entries(inner, outer, None)
    expected = (plain_update(w, ranked(w, 99), "released") * (1 / 0.9)).to(dtype)
    out = torch.empty_like(expected)
    merge_triton(inner, outer, None, ranked(w, 99), None, "released", out, factor=1 / 0.9)
    assert torch.equal(out, expected)


def test_merge_in_place_and_between_other_columns():
    inner, outer, _ = factors(SHAPES[1])
    buffer = torch.randn(15, 20, generator=torch.Generator().manual_seed(1))
    before, out = buffer.clone(), buffer[:, 3:10]
    merge_triton(inner, outer, None, None, out, "none", out)
    assert torch.equal(out, before[:, 3:10] + plain_entries(inner, outer, None).flatten(0, 1))
    assert torch.equal(buffer[:, :3], before[:, :3])
    assert torch.equal(buffer[:, 10:], before[:, 10:])


@pytest.mark.parametrize("gate", GATES)
def test_merge_lets_a_nan_be_seen(gate):
    inner, outer, _ = factors(SHAPES[1])
    outer[0, 1, 2] = torch.nan
    out = torch.empty(15, 7)
    merge_triton(inner, outer, None, torch.full((3,), 1e9), None, gate, out)
    assert out[2].isnan().all()
    assert out.isnan().sum() == 7


def check_threshold(inner, outer, scales, ranks, hints):
    w = plain_entries(inner, outer, scales)
    for rank in ranks:
        exact = ranked(w, rank)
        for hint in hints:
            guess = None if hint is None else exact * hint
            found = threshold_triton(inner, outer, scales, rank, hint=guess)
            assert torch.equal(found.view(torch.int32), exact.view(torch.int32)), (rank, hint)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_threshold_is_the_order_statistic(shape, trained):
    entries = shape[2] * shape[3]
    ranks = {(entries + 1) // 2, max(1, entries - 1)}
    check_threshold(*factors(shape, trained=trained), ranks, [None, 1.0])


@pytest.mark.parametrize("hint", [1.001, 0.97, 1.02, 3.0, -1.0, 0.0, torch.inf, torch.nan])
def test_threshold_whatever_the_hint(hint):
    check_threshold(*factors((3, 2, 5, 7, 4)), [1, 31], [hint])


@pytest.mark.parametrize("seed", range(2))
def test_threshold_of_magnitudes_in_every_binade(seed):
    rng = torch.Generator().manual_seed(seed)
    exponent = torch.randint(-60, 60, (300,), generator=rng)
    inner = torch.ldexp(torch.rand(300, generator=rng) + 1, exponent)
    inner[:9] = inner[9:18] * (1 + 1e-6)  # neighbours in one bin
    inner[18] = 0
    shape = (1, 1, 300, 1)
    ranks = torch.randint(1, 301, (3,), generator=rng).tolist()
    one = torch.ones(1, 1)
    check_threshold(inner.view(shape), torch.zeros(1, 1, 1, 1), one, ranks, [None, 1.03, 0.98])


@pytest.mark.parametrize("dims", [1, 4])
def test_threshold_with_ties(dims):
    inner, outer, _ = factors((2, 2, 20, 30, dims), draw=integers)
    check_threshold(inner, outer, None, [1, 300, 600], [None, 1.0])


@pytest.mark.parametrize("apart", [0.0, 1.0])
def test_threshold_of_equal_entries(apart):
    inner, outer = torch.zeros(1, 1, 40, 3), torch.full((1, 1, 9, 3), apart)
    check_threshold(inner, outer, None, [1, 360], [None, 1.0])
    tau, out = threshold_triton(inner, outer, None, 1), torch.ones(9, 40)
    assert not merge_triton(inner, outer, None, tau, None, "hard", out).any()


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # numpy's, meant
@pytest.mark.filterwarnings("ignore:invalid value")  # of numpy, which interprets
def test_threshold_counts_what_is_not_finite_last():
    inner = torch.tensor([1.0, 1e30, torch.nan, 2.0, torch.inf]).view(1, 1, 5, 1)
    outer, one = torch.zeros(1, 1, 1, 1), torch.ones(1, 1)
    found = [threshold_triton(inner, outer, one, rank).item() for rank in (2, 3, 4, 5)]
    assert found[0] == 2.0
    assert all(math.isnan(number) for number in found[1:])  # a square that overflows, and the rest


def test_the_entries_stay_where_the_matrix_will_be():
    inner, outer, _ = factors(SHAPES[1])
    w, out = plain_entries(inner, outer, None), torch.full((15, 7), torch.nan)
    tau = threshold_triton(inner, outer, None, 20, entries=out)
    assert torch.equal(out, w.flatten(0, 1))
    merge_triton(inner, outer, None, tau, None, "paper", out, entries=out)
    assert torch.equal(out, plain_update(w, tau, "paper"))


def test_nothing_removed_is_zero():
    assert torch.equal(threshold_triton(*factors(SHAPES[1]), 0), torch.zeros(3))


def test_ranks_near_the_largest_int32():
    """Counts as of 2^31 - 1 entries, which no test could compute."""
    near, binades = torch.zeros(1024, dtype=torch.int32), torch.zeros(256, dtype=torch.int32)
    second, third = (torch.zeros(4096, dtype=torch.int32) for _ in range(2))
    tau, hint = torch.empty(1), torch.zeros(1)
    binade = 127  # 1 to 2, after the window around the hint 0
    near[0], binades[0], binades[binade] = 2**30, 2**30, 2**30 - 1
    second[0], second[7] = 2**30 - 10, 9
    third[5], third[6] = 8, 1
    settle = triton_count.settle[(1, 1)]
    settle(hint, near, binades, second, third, tau, 2**31 - 1, **FIXED)
    assert tau.view(torch.int32).item() == (binade << 23) + (7 << 11) + 6
    settle(hint, near, binades, second, third, tau, 2**31 - 2, **FIXED)
    assert tau.view(torch.int32).item() == (binade << 23) + (7 << 11) + 5
    near[3] = 2**30 - 1  # the window has it: the second pass has counted single keys
    settle(hint, near, binades, second, third, tau, 2**31 - 1, **FIXED)
    assert tau.view(torch.int32).item() == (2 << 11) + 7


def test_few_programs_see_all_tiles(monkeypatch):
    monkeypatch.setattr(triton_select, "PROGRAMS", 2)
    check_threshold(*factors((1, 2, 70, 130, 2)), [4000], [None, 1.0])


BAD = {
    "inner": {"inner": torch.zeros(1, 2, 7, 3)},
    "outer": {"outer": torch.zeros(1, 2, 4, 5).mT},
    "scales": {"scales": torch.zeros(2)},
    "hint is torch.float64": {"hint": torch.zeros(1, dtype=torch.float64)},
    "removed=36": {"removed": 36},
    "removed=-1": {"removed": -1},
    "tau is None": {"tau": None},
    "gate='soft'": {"gate": "soft"},
    "weight": {"weight": torch.zeros(7, 5).mT},
    "out is torch.int32": {"out": torch.zeros(5, 7, dtype=torch.int32)},
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    inner, outer, _ = factors((1, 2, 5, 7, 4))
    both = {"inner": inner, "outer": outer, "scales": None, **BAD[name]}
    merging = {"tau": torch.zeros(1), "weight": None, "gate": "hard", "out": torch.zeros(5, 7)}
    selecting = {"removed": 3, "hint": None}
    call, own = merge_triton, merging
    if BAD[name].keys() & selecting:
        call, own = threshold_triton, selecting
    with pytest.raises(ValueError, match=name):
        call(**{**own, **both})


def test_available_under_the_interpreter():
    assert available(torch.device("cpu"))
    assert not available(torch.device("meta"))


@pytest.mark.parametrize("name", ["entries", "merge", "fold", "select"])
def test_examples_run(name):
    module = importlib.import_module(f"snell_layers.kernels.triton_{name}")
    assert doctest.testmod(module).failed == 0
    assert doctest.DocTestFinder().find(module)
