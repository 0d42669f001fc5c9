"""Fixtures of all tests: the device, and the two twins driven with the same gradients."""

import copy
import os

import pytest
import torch

from so_optim import SO
from so_optim.reference import SOReference
from so_optim.support import draw_support, support_stream


@pytest.fixture
def device():
    return torch.device(os.environ.get("TORCH_DEVICE", "cpu"))


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def make_weights(rng, device):
    """Leaf tensors of the given shapes, from the test's own generator."""

    def make(*shapes, dtype=torch.float64):
        draws = [torch.randn(shape, generator=rng, dtype=torch.float64) for shape in shapes]
        return [draw.to(device, dtype).requires_grad_() for draw in draws]

    return make


@pytest.fixture
def set_grads(rng):
    """Give several lists of weights the same random gradients."""

    def set_(*lists, skip=()):
        for number, weights in enumerate(zip(*lists, strict=True)):
            first = weights[0]
            grad = torch.randn(first.shape, generator=rng, dtype=torch.float64)
            for weight in weights:
                weight.grad = None if number in skip else grad.to(weight, copy=True)

    return set_


@pytest.fixture
def twins(rng, make_weights, set_grads):
    """Run SO and SOReference side by side; return the largest difference over all steps."""

    def run(shapes, steps, *, groups=None, seed=0, **settings):
        rng.manual_seed(seed)  # a failing hypothesis example must fail again
        fast = make_weights(*shapes)
        slow = copy.deepcopy(fast)

        def grouped(weights):
            return [{**(groups[i] if groups else {}), "params": [w]} for i, w in enumerate(weights)]

        optimizer = SO(grouped(fast), seed=seed, **settings)
        reference = SOReference(
            grouped(slow),
            supports=lambda i, draw, n, k: draw_support(n, k, support_stream(seed, i, draw)),
            **settings,
        )
        worst = 0.0
        for _ in range(steps):
            set_grads(fast, slow)
            optimizer.step()
            reference.step()
            pairs = zip(fast, slow, strict=True)
            worst = max(worst, *((a - b).abs().max().item() for a, b in pairs))
        return worst

    return run
