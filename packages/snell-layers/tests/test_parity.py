"""The fast path equals the reference: values and gradients in float64, for every combination."""

import itertools

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from snell_layers import SnellRule, snell_delta, snell_linear
from snell_layers.kernel import KERNELS
from snell_layers.sparsify import SPARSIFIERS

EXACT = {"rtol": 1e-12, "atol": 1e-12}
# As published, and the other way round where the kernel has coefficients.
TRAINED = [(kernel, None) for kernel in KERNELS] + [("piecewise_linear", True), ("mixed", False)]
COMBINATIONS = [
    (kernel, learns, sparsifier, sparsity)
    for (kernel, learns), sparsifier, sparsity in itertools.product(
        TRAINED, SPARSIFIERS, (0.0, 0.1, 0.5, 0.9)
    )
    if sparsifier != "none" or sparsity == 0
]


def grads(output, upstream, *tensors):
    return torch.autograd.grad(output, [t for t in tensors if t is not None], upstream)


@pytest.mark.parametrize(("kernel", "learns", "sparsifier", "sparsity"), COMBINATIONS)
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    m=st.integers(3, 9),
    n=st.integers(3, 9),
    dims=st.integers(1, 4),
    heads=st.sampled_from([2, 4]),
    pieces=st.integers(1, 3),
    seed=st.integers(0, 2**20),
)
def test_layer_equals_reference(
    make_factors,
    make_coefficients,
    reference_update,
    kernel,
    learns,
    sparsifier,
    sparsity,
    m,
    n,
    dims,
    heads,
    pieces,
    seed,
):
    rule = SnellRule(heads * dims, sparsity, kernel, sparsifier, heads, learns)
    inner, outer = make_factors(rule, m, n, pieces=pieces, seed=seed)
    scalars = make_coefficients(rule, pieces=pieces, seed=seed)
    draw = torch.Generator().manual_seed(seed + 1)
    weight, x, bias, upstream = (
        torch.randn(shape, generator=draw, dtype=torch.float64).to(inner.device)
        for shape in ((pieces * m, n), (2, 3, n), (pieces * m,), (2, 3, pieces * m))
    )
    x.requires_grad_()

    fast, _ = snell_linear(x, inner, outer, rule, weight=weight, bias=bias, coefficients=scalars)
    delta = reference_update(inner, outer, rule, scalars)
    slow = F.linear(x, weight, bias) + F.linear(x, delta)

    ours = snell_delta(inner, outer, rule, coefficients=scalars)[0]
    torch.testing.assert_close(ours, delta.detach(), **EXACT)
    torch.testing.assert_close(fast, slow, **EXACT)
    tensors = (x, inner, outer, scalars)
    for ours, theirs in zip(
        grads(fast, upstream, *tensors), grads(slow, upstream, *tensors), strict=True
    ):
        torch.testing.assert_close(ours, theirs, **EXACT)


@pytest.mark.parametrize("rank", [8, 16, 32])
@pytest.mark.parametrize("sparsity", [0.0, 0.9, 0.99])
def test_wide_layers_equal_the_reference_from_the_released_start(
    device, reference_update, rank, sparsity
):
    from snell_layers.factors import SnellFactors

    rule = SnellRule(rank, sparsity)
    generator = torch.Generator().manual_seed(rank)
    factors = SnellFactors(96, 128, rule, generator=generator, dtype=torch.float64).to(device)
    x = torch.randn(16, 96, generator=generator, dtype=torch.float64).to(device)
    slow = F.linear(x, reference_update(factors.inner, factors.outer, rule))
    fast = factors(x)
    upstream = torch.randn(fast.shape, generator=generator, dtype=torch.float64).to(device)
    torch.testing.assert_close(fast, slow, **EXACT)
    parameters = (factors.inner, factors.outer)
    for ours, theirs in zip(
        grads(fast, upstream, *parameters), grads(slow, upstream, *parameters), strict=True
    ):
        torch.testing.assert_close(ours, theirs, **EXACT)


@pytest.mark.parametrize(("kernel", "learns"), TRAINED)
@pytest.mark.parametrize("sparsifier", ["none", "paper", "hard"])
def test_gradcheck_where_the_gradient_is_the_derivative(
    make_factors, make_coefficients, kernel, learns, sparsifier
):
    """With the threshold held; the released gate is detached: only the reference can judge it."""
    rule = SnellRule(
        4, 0 if sparsifier == "none" else 0.5, kernel, sparsifier, learn_coefficients=learns
    )
    inner, outer = make_factors(rule, 4, 5)
    scalars = make_coefficients(rule)
    # One entry lies exactly on the threshold, where there is no derivative: step past it.
    threshold = 1.001 * snell_delta(inner, outer, rule, coefficients=scalars)[1]
    x = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weight = torch.ones(4, 5, dtype=torch.float64, device=inner.device, requires_grad=True)
    bias = torch.ones(4, dtype=torch.float64, device=inner.device, requires_grad=True)

    def layer(x, inner, outer, weight, bias, scalars):
        return snell_linear(
            x,
            inner,
            outer,
            rule,
            weight=weight,
            bias=bias,
            coefficients=scalars,
            threshold=threshold,
        )[0]

    arguments = (x.to(inner.device).requires_grad_(), inner, outer, weight, bias, scalars)
    assert torch.autograd.gradcheck(layer, arguments)


def test_released_gradient_is_half_of_the_derivative(make_factors):
    """The documented quirk: |w| is held constant, so the factors see g·|w| instead of 2·g·|w|."""
    released, true = SnellRule(4, 0.5), SnellRule(4, 0.5, sparsifier="paper")
    inner, outer = make_factors(released, 6, 5)
    x = torch.eye(5, dtype=torch.float64, device=inner.device)
    threshold = torch.zeros(1, dtype=torch.float64, device=inner.device)
    gradients = [
        torch.autograd.grad(
            snell_linear(x, inner, outer, rule, threshold=threshold)[0].sum(), (inner, outer)
        )
        for rule in (released, true)
    ]
    for half, full in zip(*gradients, strict=True):
        torch.testing.assert_close(2 * half, full)
