"""Fixtures of all tests: the device, a generator, factors, and the reference's view of them."""

import os

import pytest
import torch

from snell_layers import SnellRule
from snell_layers.reference import reference_delta


@pytest.fixture
def device():
    return torch.device(os.environ.get("TORCH_DEVICE", "cpu"))


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def make_factors(device):
    """Random factors `(inner, outer)` of a rule for a weight of `m` rows and `n` columns."""

    def make(rule: SnellRule, m: int, n: int, *, pieces=1, seed=0, dtype=torch.float64, scale=1.0):
        generator = torch.Generator().manual_seed(seed)

        def draw(rows):
            shape = (pieces, rule.head_count, rows, rule.dims)
            values = torch.randn(shape, generator=generator, dtype=torch.float64) * scale
            return values.to(device, dtype).requires_grad_()

        return draw(n), draw(m)

    return make


@pytest.fixture
def make_coefficients(device):
    """Coefficients `(pieces, count)` away from their start, or `None` where the rule holds them."""

    def make(rule: SnellRule, *, pieces=1, seed=0, dtype=torch.float64):
        if not rule.trained_coefficients:
            return None
        generator = torch.Generator().manual_seed(seed + 1)
        noise = torch.rand(pieces, len(rule.start), generator=generator, dtype=torch.float64) - 0.5
        return (torch.tensor(rule.start) + 0.3 * noise).to(device, dtype).requires_grad_()

    return make


def as_in_paper(factor):
    """`(heads, rows, dims)` as the paper's `(rows, r)`."""
    return factor.permute(1, 0, 2).flatten(1)


@pytest.fixture
def reference_update():
    """The reference's update for fast factors, differentiable in them; pieces stacked by rows."""

    def update(inner, outer, rule: SnellRule, coefficients=None):
        scalars = [None] * len(inner) if coefficients is None else coefficients
        triples = zip(inner, outer, scalars, strict=True)
        return torch.cat(
            [
                reference_delta(
                    as_in_paper(a),
                    as_in_paper(b),
                    s=rule.sparsity,
                    kernel=rule.kernel,
                    sparsifier=rule.sparsifier,
                    P=rule.heads,
                    coefficients=c,
                )
                for a, b, c in triples
            ]
        )

    return update
