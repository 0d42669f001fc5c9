"""Several deltas of one base add up to the same bits in any order."""

import itertools
import runpy
from pathlib import Path

import pytest
import torch

from so_optim.delta import Delta, stack

safetensors = pytest.importorskip("safetensors")
pytest.importorskip("safetensors.torch")

BITS = runpy.run_path(str(Path(__file__).parent / "delta_bits.py"))
bits, changed, clones, same = (BITS[name] for name in ("bits", "changed", "clones", "same"))


def test_deltas_of_different_tensors_come_and_go_in_any_order(rng):
    base = {name: torch.randn(6, 5, generator=rng) for name in "abc"}
    deltas = [Delta.between(base, {**base, name: changed(base[name], 7, rng)}) for name in base]
    states = set()
    for order, back in itertools.product(itertools.permutations(deltas), repeat=2):
        model = clones(base)
        for delta in order:
            delta.apply(model)
        states.add(tuple(bits(tensor).flatten().tolist().__str__() for tensor in model.values()))
        for delta in back:
            delta.revert(model)
        assert same(model, base)
    assert len(states) == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_a_stack_adds_differences_whatever_the_order(rng, dtype):
    base = {"w": torch.randn(40, 5, generator=rng).to(dtype)}
    news = []
    for _ in range(4):
        moved = torch.randn(40, 5, generator=rng) * (torch.rand(40, 5, generator=rng) < 0.5)
        news.append({"w": (base["w"].double() + moved).to(dtype)})
    deltas = [Delta.between(base, new) for new in news]
    scales = [1.0, 0.3, -1.0, 2.0]
    results = []
    for order in itertools.permutations(range(4)):
        model = clones(base)
        stacked = stack([deltas[i] for i in order], base, scales=[scales[i] for i in order])
        stacked.apply(model)
        results.append(clones(model))
        stacked.revert(model)
        assert same(model, base)
    assert all(same(result, results[0]) for result in results)
    wide = base["w"].double()
    exact = wide + sum(c * (n["w"].double() - wide) for c, n in zip(scales, news, strict=True))
    error = (results[0]["w"].double() - exact).abs()
    assert (error <= torch.finfo(dtype).eps * (exact.abs() + 1e-12) + 1e-14).all()


def test_a_delta_taken_from_itself_leaves_the_base(rng):
    base = {"w": torch.randn(30, generator=rng), "n": torch.tensor(3), "mask": torch.ones(2) > 0}
    new = {"w": changed(base["w"], 9, rng).nan_to_num(0, 0, 0), "n": torch.tensor(8)}
    new["mask"] = torch.tensor([True, False])
    delta = Delta.between(base, new)
    gone = stack([delta, delta], base, scales=[1, -1])
    assert set(gone.describe()["tensors"]) <= {"w"}  # w + d - d may round in the sum
    both = stack([delta, delta], base)
    both.apply(base)
    assert base["n"] == 13
    assert base["mask"].tolist() == [True, False]


def test_a_stack_brings_new_tensors_and_reads_its_base_from_a_file(tmp_path):
    base = {"w": torch.zeros(3)}
    safetensors.torch.save_file(base, tmp_path / "base")
    one = Delta.between(base, {"w": torch.ones(3)})
    two = Delta.between(base, {**base, "head": torch.ones(2)})
    stacked = stack([two, one, two], tmp_path / "base")
    stacked.apply(base)
    assert same(base, {"w": torch.ones(3), "head": torch.ones(2)})


def test_stacks_of_stacks(rng):
    base = {"w": torch.zeros(20)}
    deltas = [Delta.between(base, {"w": torch.eye(20)[i] + torch.eye(20)[0]}) for i in range(1, 4)]
    nested = stack([stack(deltas[:2], base), deltas[2]], base)
    nested.apply(base)
    assert base["w"].tolist() == [3, 1, 1, 1] + [0] * 16


def test_bad_stacks_are_refused():
    base, one = {"w": torch.zeros(3)}, torch.ones(3)
    delta = Delta.between(base, {"w": one})
    head = [Delta.between(base, {**base, "head": c * one}) for c in (1, 2)]
    with pytest.raises(ValueError, match=r"deltas\[1\] means another tensor by 'w'"):
        stack([delta, Delta.between({"w": one}, base)], base)
    with pytest.raises(ValueError, match=r"deltas\[1\] means another tensor by 'w'"):
        stack([delta, Delta.between({"w": one[:2]}, {"w": one[:2]})], base)
    with pytest.raises(ValueError, match="not all know 'v'"):
        stack([delta, Delta.between({**base, "v": one}, {**base, "v": one})], base)
    with pytest.raises(ValueError, match=r"deltas\[1\] means another tensor by 'head'"):
        stack(head, base)
    with pytest.raises(ValueError, match="base has other content in 'w'"):
        stack([delta], {"w": torch.full((3,), 5.0)})
    with pytest.raises(ValueError, match="base has this delta applied already"):
        stack([delta], {"w": one})
    with pytest.raises(ValueError, match="deltas must be a list of at least one"):
        stack([], base)
    with pytest.raises(ValueError, match="scales must be 1 numbers"):
        stack([delta], base, scales=[1, 2])
    with pytest.raises(ValueError, match="scales must be finite"):
        stack([delta], base, scales=[float("nan")])
