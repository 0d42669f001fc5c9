"""One model twice, on the same inputs: with dense gradients and with sampled ones."""

import copy

import pytest
import torch

from so_optim import SO


@pytest.fixture
def fill(rng):
    """Give a model parameters from the test's own generator."""

    def fill(model, dtype=torch.float64):
        with torch.no_grad():
            for parameter in model.to(dtype).parameters():
                draw = torch.randn(parameter.shape, generator=rng, dtype=torch.float64)
                parameter.copy_(draw / max(1, parameter[:1].numel()) ** 0.5)
        return model

    return fill


@pytest.fixture
def draw(rng):
    """Inputs from the test's own generator."""

    def draw(*shape, dtype=torch.float64):
        return torch.randn(shape, generator=rng, dtype=torch.float64).to(dtype)

    return draw


@pytest.fixture
def twins_of():
    return Twins


class Twins:
    """A model whose gradients are sampled, and its copy whose gradients are dense."""

    def __init__(self, model, density=0.1, memory="free", **settings):
        self.dense, self.sampled = model, copy.deepcopy(model)
        self.optimizer = SO(self.sampled.parameters(), density_ratio=density, **settings)
        self.sampling = self.optimizer.sample_gradients(self.sampled, memory=memory)

    def backward(self, *inputs, call=lambda model, *inputs: model(*inputs)):
        """Send both forward and back, checking the outputs and the gradients of the inputs."""
        done = []
        for model in (self.dense, self.sampled):
            own = [each.clone().requires_grad_(each.is_floating_point()) for each in inputs]
            out = call(model, *own)
            weights = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view_as(out)
            (out * weights.to(out)).sum().backward()
            done.append((out, *(each.grad for each in own)))
        for theirs, ours in zip(*done, strict=True):
            assert_near(ours, theirs, 1e-12)
        return done[1][0]

    def gradients(self):
        """By name: the sampled twin's gradient, and the dense twin's at the same entries."""
        ours = dict(self.sampled.named_parameters())
        for name, theirs in self.dense.named_parameters():
            if not theirs.requires_grad:
                continue
            leaf = self.sampling.leaves.get(ours[name])
            if leaf is None:
                yield name, ours[name].grad, theirs.grad
            else:
                assert ours[name].grad is None
                at = leaf.positions()
                yield name, leaf.values.grad, theirs.grad.flatten()[at]

    def check(self, tolerance=1e-12):
        """Compare all gradients, as a fraction of the largest entry of each.

        The gradient of a key's bias is zero, and what is left of it rounding, so nothing is
        compared to less than a thousandth of the largest gradient.
        """
        every = list(self.gradients())
        whole = [
            each.grad.abs().max().item() for each in self.dense.parameters() if some(each.grad)
        ]
        for name, ours, theirs in every:
            assert_near(ours, theirs, tolerance, name, least=max(whole, default=0.0) / 1000)

    def path(self, name):
        """What `repr` says of a weight."""
        lines = [line.strip() for line in repr(self.sampling).splitlines()]
        return next(line for line in lines if line.startswith(f"{name}:")).split(", ", 1)[1]


def some(tensor):
    return tensor is not None and tensor.numel() > 0


def assert_near(ours, theirs, tolerance, name="", least=0.0):
    """Compare two tensors as a fraction of the largest entry."""
    if theirs is None or ours is None:
        assert ours is theirs, name
        return
    largest = theirs.detach().abs().max().item() if some(theirs) else 0.0
    room = tolerance * max(largest, least)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=room, check_dtype=False)
