"""Applying gives the new weights and reverting the base, bit for bit, from any layout."""

import itertools
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from so_optim import SO
from so_optim.delta import Delta, stack

safetensors = pytest.importorskip("safetensors")
pytest.importorskip("safetensors.torch")

BITS = runpy.run_path(str(Path(__file__).parent / "delta_bits.py"))
any_bits, bits, changed, clones, same = (
    BITS[name] for name in ("any_bits", "bits", "changed", "clones", "same")
)
DTYPES = [
    torch.bfloat16,
    torch.float16,
    torch.float32,
    torch.float64,
    torch.float8_e4m3fn,
    torch.int8,
    torch.int64,
    torch.uint8,
    torch.bool,
    torch.complex64,
]


@st.composite
def weights(draw):
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    base, new = {}, {}
    for number in range(draw(st.integers(1, 4))):
        shape = draw(st.lists(st.integers(0, 6), max_size=4))
        tensor = any_bits(shape, draw(st.sampled_from(DTYPES)), generator)
        base[f"layers.{number}.w"] = tensor
        new[f"layers.{number}.w"] = changed(tensor, draw(st.integers(0, 40)), generator)
    return base, new


@settings(max_examples=60, deadline=None)
@given(weights())
def test_applies_and_reverts_bit_for_bit(tmp_path_factory, pair):
    base, new = pair
    path = tmp_path_factory.mktemp("delta") / "delta.safetensors"
    found = Delta.between(base, new)
    found.save(path)
    for delta in (found, Delta.load(path)):
        model = clones(base)
        delta.apply(model)
        assert same(model, new)
        delta.revert(model)
        assert same(model, base)
        assert delta.describe() == found.describe()
        assert str(delta) == str(found)


@settings(max_examples=30, deadline=None)
@given(weights())
def test_counts_and_finds_what_changed(pair):
    base, new = pair
    delta = Delta.between(base, new)
    found = delta.describe()
    for name in base:
        differs = bits(base[name]) != bits(new[name])
        assert torch.equal(delta.positions(name), differs.nonzero())
        assert found["tensors"].get(name, {"changed": 0})["changed"] == int(differs.sum())
    assert found["entries"] == sum(tensor.numel() for tensor in base.values())
    assert found["changed"] == sum(of["changed"] for of in found["tensors"].values())


def strided(tensor):
    """The same values in every memory layout that tensors of its rank have."""
    yield tensor.clone()
    yield tensor.transpose(0, 1).contiguous().transpose(0, 1)
    yield torch.stack([tensor, tensor], dim=-1)[..., 0]
    if tensor.ndim == 4:
        yield tensor.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shape", [(6, 7), (3, 4, 5), (3, 4, 2, 5)])
def test_memory_layout_does_not_matter(rng, shape):
    base = torch.randn(shape, generator=rng)
    new = changed(base, 9, rng)
    deltas = [
        Delta.between({"w": a}, {"w": b}) for a, b in zip(strided(base), strided(new), strict=True)
    ]
    assert len({delta.base for delta in deltas}) == 1
    for delta, tensor in itertools.product(deltas, strided(base)):
        model = {"w": tensor.clone(memory_format=torch.preserve_format)}
        delta.apply(model)
        assert same(model, {"w": new})
        delta.revert(model)
        assert same(model, {"w": base})


def test_slices_of_one_buffer_are_apart():
    buffer = torch.zeros(10)
    model = {"a": buffer[:4], "b": buffer[4:]}
    delta = Delta.between(clones(model), {"a": torch.ones(4), "b": torch.full((6,), 2.0)})
    delta.apply(model)
    assert buffer.tolist() == [1.0] * 4 + [2.0] * 6


def test_overlapping_slices_are_refused():
    buffer = torch.zeros(10)
    model = {"a": buffer[:6], "b": buffer[4:]}
    delta = Delta.between(clones(model), {"a": torch.ones(6), "b": torch.zeros(6)})
    with pytest.raises(ValueError, match="'b' and 'a' in the same memory"):
        delta.apply(model)
    assert buffer.count_nonzero() == 0


@pytest.mark.parametrize(
    ("base", "new", "message"),
    [
        ({"w": torch.zeros(2)}, {}, "new lacks tensor 'w'"),
        ({"w": torch.zeros(2)}, {"w": torch.zeros(3)}, r"shape \(3,\) in 'w' but base \(2,\)"),
        ({"w": torch.zeros(2)}, {"w": torch.zeros(2).double()}, "new has dtype torch.float64"),
        (3, {}, "base must be a model, a state dict or the path"),
        ({}, None, "new must be a model, a state dict or the path"),
        ({}, {"w": torch.zeros(2, dtype=torch.complex128)}, "wider than 8 bytes"),
        ({}, {"w": torch.zeros(2, device="meta")}, "'w' is not plain memory"),
        ({}, {"w": torch.zeros(2, 2).to_sparse()}, "'w' is not plain memory"),
    ],
)
def test_what_cannot_be_compared_is_refused(base, new, message):
    with pytest.raises(ValueError, match=message):
        Delta.between(base, new)


@settings(max_examples=30, deadline=None)
@given(weights())
def test_a_stack_of_one_is_the_delta_itself(pair):
    """NaN payloads included."""
    base, new = pair
    model = clones(base)
    stack([Delta.between(base, new), Delta.between(base, base)], base).apply(model)
    assert same(model, new)


def transformer():
    """A tiny encoder with a classifier, the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        layer = torch.nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        return torch.nn.Sequential(
            torch.nn.Linear(8, 16),
            torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
            torch.nn.Linear(16, 3),
        )


FRESH = """
import sys
import safetensors.torch, torch
from so_optim.delta import Delta, stack

folder = sys.argv[1]
state = safetensors.torch.load_file(folder + "/base")
Delta.load(folder + "/delta").apply(state)
safetensors.torch.save_file(state, folder + "/applied")
state = safetensors.torch.load_file(folder + "/trained")
Delta.load(folder + "/delta").revert(state)
safetensors.torch.save_file(state, folder + "/reverted")
"""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_trained_model_in_a_fresh_process(tmp_path, rng, dtype):
    model = transformer().to(dtype)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "base")
    optimizer = SO(model.parameters(), lr=1e-2, density_ratio=0.01, T=5)
    for _ in range(20):
        optimizer.zero_grad()
        model(torch.randn(4, 6, 8, generator=rng).to(dtype)).square().mean().backward()
        optimizer.step()
    safetensors.torch.save_file(model.state_dict(), tmp_path / "trained")
    delta = Delta.between(tmp_path / "base", model)
    delta.save(tmp_path / "delta")
    subprocess.run([sys.executable, "-c", FRESH, str(tmp_path)], check=True)
    states = {
        name: safetensors.torch.load_file(tmp_path / name)
        for name in ("base", "trained", "applied", "reverted")
    }
    assert same(states["applied"], states["trained"])
    assert same(states["reverted"], states["base"])
    assert not same(states["trained"], states["base"])
    sparse = delta.describe()["tensors"]["1.layers.0.linear1.weight"]
    assert 0 < sparse["density"] <= 0.01 * 5  # at most five draws of the support in 20 steps
    delta.revert(model)
    assert same(model.state_dict(), transformer().to(dtype).state_dict())
