"""The compiled code for CPUs: the same bits as torch, whatever the shape, and no need for it."""

import os
import subprocess
import sys

import pytest
import torch

from snell_layers import SnellLinear, SnellRule, kernels, update
from snell_layers.kernels import cpu

pytestmark = pytest.mark.skipif(not kernels.available(), reason="no C++ compiler here")

# pieces, m, n, heads, dims: less than a vector, several, ragged ends, dims that are not unrolled
SHAPES = [
    (1, 3, 5, 2, 4),
    (3, 40, 33, 2, 4),
    (1, 65, 96, 4, 3),
    (1, 48, 64, 2, 16),
    (2, 70, 1, 2, 1),
]
GATES = [("none", 0.0), ("released", 0.9), ("paper", 0.5), ("hard", 0.3), ("released", 0.01)]


def problem(shape, *, trained, dtype, seed=0):
    """Factors (three points of which coincide), a weight and a gradient."""
    pieces, m, n, heads, dims = shape
    rng = torch.Generator().manual_seed(seed)
    inner, outer = (torch.randn(pieces, heads, k, dims, generator=rng, dtype=dtype) for k in (n, m))
    outer[:, :, :3] = inner[:, :, :1]
    scales = torch.randn(pieces, heads, generator=rng, dtype=dtype) if trained else None
    weight, grad = (torch.randn(pieces * m, n, generator=rng, dtype=dtype) for _ in range(2))
    return (inner, outer, scales), weight, grad


def rule_of(shape, gate, *, trained):
    sparsifier, sparsity = gate
    heads, dims = shape[3:]
    return SnellRule(heads * dims, sparsity, "piecewise_linear", sparsifier, heads, trained)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("gate", GATES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equal_to_torch(shape, gate, trained, dtype):
    rule = rule_of(shape, gate, trained=trained)
    factors, weight, grad = problem(shape, trained=trained, dtype=dtype)
    assert cpu.runs(factors, rule, weight)
    for base, scale in ((None, 1.0), (weight, 1.0), (weight, 1.25)):
        ours, tau = cpu.build(factors, rule, weight=base, scale=scale)
        theirs, expected = update.build(factors, rule, weight=base, scale=scale)
        assert torch.equal(tau, expected)
        assert torch.equal(ours, theirs)
        hinted = cpu.build(factors, rule, hint=expected * 1.001)[1]
        assert torch.equal(hinted, expected)
    assert_gradients(grad, factors, weight, rule, tau)


def assert_gradients(grad, factors, weight, rule, tau):
    """Sums in another order; and the matrix takes the place of its gradient, with the same bits."""
    wanted = update.fold(grad, factors, rule, tau, scale=1.25)
    given = grad.clone()
    found = cpu.fold(given, factors, rule, tau, weight=weight, scale=1.25, replace=True)
    assert torch.equal(
        given, update.build(factors, rule, weight=weight, threshold=tau, scale=1.25)[0]
    )
    other = grad.clone()
    update.fold(other, factors, rule, tau, weight=weight, scale=1.25, replace=True)
    assert torch.equal(given, other)
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            room = 1e-4 if grad.dtype == torch.float32 else 1e-11
            assert (ours - theirs).norm() <= room * theirs.norm()


@pytest.mark.parametrize("name", ["build", "fold"])
def test_the_number_of_threads_changes_no_bit(name):
    shape = (1, 600, 300, 2, 4)
    rule = rule_of(shape, ("released", 0.9), trained=False)
    factors, weight, grad = problem(shape, trained=False, dtype=torch.float32)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            matrix, tau = cpu.build(factors, rule, weight=weight)
            results.append((matrix, tau) if name == "build" else cpu.fold(grad, factors, rule, tau))
    finally:
        torch.set_num_threads(before)
    assert all(a is b or torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_a_nan_shows_and_does_not_hang():
    rule = SnellRule(8, 0.5)
    factors, weight, _ = problem((1, 20, 30, 2, 4), trained=False, dtype=torch.float32)
    factors[0][0, 0, 4] = torch.nan
    for path in (cpu, update):
        matrix, _ = path.build(factors, rule, weight=weight)
        assert matrix[:, 4].isnan().all()
        assert matrix[:, 5].isfinite().all()


def test_layers_use_it_and_can_be_told_not_to(monkeypatch, rng):
    layer = SnellLinear(torch.nn.Linear(40, 24), 8, 0.9)
    x, calls = torch.randn(3, 40, generator=rng), []
    build = cpu.build
    monkeypatch.setattr(cpu, "build", lambda *a, **k: calls.append(1) or build(*a, **k))
    y = layer(x)
    assert calls
    calls.clear()
    with kernels.use(False):
        assert not kernels.available()
        assert torch.equal(layer(x), y)
    assert not calls
    assert kernels.available()


@pytest.mark.parametrize(
    ("kernel", "change"),
    [("linear", None), ("mixed", None), ("piecewise_linear", "bfloat16"), (None, "meta")],
)
def test_whatever_it_cannot_do_is_left_to_torch(kernel, change):
    rule = SnellRule(8, 0.5, kernel or "piecewise_linear")
    shape = (1, rule.head_count, 6, rule.dims)
    factors = torch.randn(shape), torch.randn(shape), None
    if change == "bfloat16":
        factors = (*(f.bfloat16() for f in factors[:2]), None)
    if change == "meta":
        factors = (*(f.to("meta") for f in factors[:2]), None)
    assert not cpu.runs(factors, rule)


PROCESS = """
import torch
from snell_layers import SnellLinear, kernels
layer = SnellLinear(torch.nn.Linear(40, 24, bias=False), 8, 0.9)
with torch.no_grad():
    layer.base.weight.fill_(1)
print(kernels.available(), layer(torch.ones(1, 40)).double().sum().item())
"""


def run(tmp_path, **environment):
    given = os.environ | {"XDG_CACHE_HOME": str(tmp_path), **environment}
    done = subprocess.run(
        [sys.executable, "-c", PROCESS], env=given, capture_output=True, text=True, check=True
    )
    return done.stdout.split(), done.stderr


def test_without_a_compiler_the_result_is_the_same_and_with_one_it_is_compiled_once(tmp_path):
    (without, number), log = run(tmp_path, CXX="/no/compiler")
    assert without == "False"
    assert "could not be compiled" in log
    assert not list(tmp_path.rglob("*.so"))
    (compiled, same), _ = run(tmp_path)
    assert (compiled, same) == ("True", number)
    (library,) = tmp_path.rglob("*.so")
    made = library.stat().st_mtime_ns
    assert run(tmp_path)[0] == ["True", number]
    assert library.stat().st_mtime_ns == made
    assert run(tmp_path, SNELL_KERNELS="off")[0] == ["False", number]
