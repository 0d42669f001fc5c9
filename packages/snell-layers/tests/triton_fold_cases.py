"""The factor gradient equals float64 autograd; test_triton.py runs this interpreted."""

import pytest
import torch

from snell_layers import SnellRule, update
from snell_layers.kernels import gpu, triton_fold
from snell_layers.kernels.triton_fold import chunking, fold_triton
from snell_layers.kernels.triton_merge import GATES, merge_triton

# pieces, heads, m, n, dims: one entry, less than a block, several blocks both ways
SHAPES = [(1, 1, 1, 1, 1), (3, 2, 5, 7, 4), (1, 4, 33, 130, 3), (1, 2, 33, 129, 16)]


def problem(shape, *, trained=False, seed=0, offset=0.0):
    """Weight gradient, factors, coefficients, and a threshold that drops about half."""
    pieces, heads, m, n, dims = shape
    rng = torch.Generator().manual_seed(seed)
    inner, outer = (torch.randn(pieces, heads, k, dims, generator=rng) + offset for k in (n, m))
    scales = torch.randn(pieces, heads, generator=rng) if trained else None
    grad = torch.randn(pieces * m, n, generator=rng)
    everything = torch.empty(pieces * m, n)
    merge_triton(inner, outer, scales, None, None, "none", everything)
    tau = everything.abs().view(pieces, -1).median(-1).values
    return grad, inner, outer, scales, tau


def plain_fold(grad, inner, outer, scales, tau, gate, factor=1.0):
    """Autograd in float64; which entries survive is taken from the merge."""
    pieces, heads = outer.shape[:2]
    alive = torch.ones_like(grad, dtype=torch.float32)
    if gate != "none":
        alive = merge_triton(inner, outer, scales, tau, None, "hard", alive.clone())
    leaves = [f.double().requires_grad_() for f in (inner, outer)]
    if scales is None:
        scales = torch.tensor([0.1, -0.1] * heads)[:heads].expand(pieces, heads)
    leaves.append(scales.double().requires_grad_())
    a, b, c = leaves
    squares = (b[:, :, :, None] - a[:, :, None]).square().sum(-1)
    apart = squares > 0
    distance = torch.where(apart, torch.where(apart, squares, 1.0).sqrt(), 0.0)
    w = (c[:, :, None, None] * distance).sum(1)
    size = w.detach().abs()
    slopes = {"released": size}
    if gate == "paper":
        slopes["paper"] = 2 * size - tau.double()[:, None, None]
    g_w = grad.double().view_as(w) * factor * slopes.get(gate, torch.ones_like(size))
    (w * g_w.masked_fill(alive.view_as(w) == 0, 0.0)).sum().backward()
    return [leaf.grad for leaf in leaves]


def assert_near(found, expected):
    for one, exact in zip(found, expected, strict=True):
        if one is not None:
            near = 1e-5 * exact.abs().max().item()
            torch.testing.assert_close(one.double(), exact, rtol=1e-5, atol=near)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_autograd(shape, trained, gate):
    arguments = problem(shape, trained=trained)
    found = fold_triton(*arguments, gate)
    assert (found[2] is None) == (not trained)
    assert_near(found, plain_fold(*arguments, gate))


def test_needs_no_threshold_without_a_gate():
    *arguments, tau = problem(SHAPES[1])
    assert_near(fold_triton(*arguments, None, "none"), plain_fold(*arguments, tau, "none"))


@pytest.mark.parametrize("programs", [1, 2, 1000])
def test_long_and_short_chunks(programs, monkeypatch):
    monkeypatch.setattr(triton_fold, "PROGRAMS", programs)
    arguments = problem((2, 2, 200, 130, 1), trained=True)
    assert_near(fold_triton(*arguments, "released"), plain_fold(*arguments, "released"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_gradients_and_a_factor(dtype):
    grad, *arguments = problem(SHAPES[2], trained=True)
    grad = grad.to(dtype)
    found = fold_triton(grad, *arguments, "paper", factor=1 / 0.9)
    assert_near(found, plain_fold(grad, *arguments, "paper", factor=1 / 0.9))


def test_a_gradient_between_other_columns():
    grad, *arguments = problem(SHAPES[1])
    wide = torch.full((15, 20), torch.nan)
    wide[:, 3:10] = grad
    found, expected = (fold_triton(g, *arguments, "hard") for g in (wide[:, 3:10], grad))
    assert all(torch.equal(a, b) for a, b in zip(found[:2], expected[:2], strict=True))


@pytest.mark.parametrize("gate", ["released", "none"])
def test_a_common_offset_costs_no_digits(gate):
    arguments = problem(SHAPES[2], offset=1000.0)
    assert_near(fold_triton(*arguments, gate), plain_fold(*arguments, gate))


@pytest.mark.parametrize("gate", ["hard", "none"])
def test_coincident_points_pull_nothing(gate):
    grad, inner, outer, scales, tau = problem(SHAPES[1], trained=True)
    outer[:, 0, 1] = inner[:, 0, 2]  # one head at distance zero
    outer[:, :, 3] = inner[:, :, 4]  # all heads
    arguments = grad, inner, outer, scales, tau
    found = fold_triton(*arguments, gate)
    assert all(part.isfinite().all() for part in found)
    assert_near(found, plain_fold(*arguments, gate))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [SHAPES[1], (1, 2, 5, 7, 16)])
def test_the_matrix_takes_the_place_of_its_gradient(shape, dtype):
    """Rows of few numbers and of many; in the type of the gradient, with the merge's bits."""
    grad, *arguments = problem(shape, trained=True)
    grad, weight = grad.to(dtype), torch.randn_like(grad).to(dtype)
    expected = merge_triton(*arguments, weight, "paper", torch.empty_like(grad), factor=1.25)
    alone = fold_triton(grad, *arguments, "paper", factor=1.25)
    options = {"factor": 1.25, "weight": weight, "replace": True}
    found = fold_triton(grad, *arguments, "paper", **options)
    assert torch.equal(grad, expected)
    assert all(torch.equal(a, b) for a, b in zip(alone, found, strict=True))


def test_two_calls_agree_to_the_last_bit():
    arguments = problem(SHAPES[3], trained=True)
    pairs = zip(*(fold_triton(*arguments, "released") for _ in range(2)), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("gate", ["hard", "none"])
def test_a_nan_is_seen(gate):
    grad, inner, outer, scales, tau = problem(SHAPES[1])
    outer[0, 0, 2] = torch.nan
    grad_inner, grad_outer, _ = fold_triton(grad, inner, outer, scales, tau, gate)
    assert grad_outer[0, 0, 2].isnan().all()
    assert grad_inner[0, 0].isnan().all()


@pytest.mark.parametrize(
    ("m", "n", "r"), [(768, 768, 8), (3072, 768, 8), (4096, 11008, 8), (768, 768, 16)]
)
def test_parts_stay_below_a_quarter_of_the_matrix(m, n, r):
    blocks, chunks, tiles = chunking(m, n, r)
    sizes = triton_fold.blocks_for(r, 32)
    assert (blocks * m + chunks * n) * r <= m * n / 4
    assert blocks * triton_fold.columns_of(sizes) >= n
    assert chunks * tiles * sizes["ROWS"] >= m


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("grad", {"grad": torch.zeros(7, 5).mT}),
        ("tau", {"tau": torch.zeros(2)}),
        ("gate='soft'", {"gate": "soft"}),
        ("outer is torch.float64", {"outer": torch.zeros(1, 2, 5, 4).double()}),
    ],
)
def test_bad_input_is_named(name, change):
    names = ("grad", "inner", "outer", "scales", "tau")
    arguments = dict(zip(names, problem((1, 2, 5, 7, 4)), strict=True))
    with pytest.raises(ValueError, match=name):
        fold_triton(**{**arguments, "gate": "hard", **change})


@pytest.mark.parametrize("sparsifier", ["released", "paper", "hard", "none"])
def test_the_package_builds_and_folds_as_by_torch(sparsifier):
    """What a GPU calls, against the path that runs everywhere: the matrix has the same bits."""
    rule = SnellRule(8, 0.0 if sparsifier == "none" else 0.7, sparsifier=sparsifier)
    rng = torch.Generator().manual_seed(3)
    inner, outer = (torch.randn(2, 2, rows, 4, generator=rng) for rows in (37, 21))
    weight, grad = (torch.randn(42, 37, generator=rng) for _ in range(2))
    factors = inner, outer, None
    assert gpu.runs(factors, rule, weight)
    ours, tau = gpu.build(factors, rule, weight=weight, scale=1.25)
    theirs, expected = update.build(factors, rule, weight=weight, scale=1.25)
    assert torch.equal(tau, expected)
    assert torch.equal(ours, theirs)
    half, _ = gpu.build(factors, rule, weight=weight, scale=1.25, dtype=torch.bfloat16)
    assert torch.equal(half, theirs.bfloat16())
    wanted = update.fold(grad, factors, rule, tau, scale=1.25)
    found = gpu.fold(grad, factors, rule, tau, weight=weight, scale=1.25, replace=True)
    assert_near(found[:2], [one.double() for one in wanted[:2]])
    assert torch.equal(grad, theirs)
