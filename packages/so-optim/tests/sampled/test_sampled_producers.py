"""What a layer keeps depends on what made its input; its gradient does not."""

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

NOTHING, COLUMNS = "keeps nothing", "columns"


class Half(nn.Module):
    """Splits the width in two and lays the halves side by side."""

    def forward(self, x):
        return x.unflatten(-1, (2, -1)).transpose(-1, -2).transpose(-1, -2).flatten(-2)


class Own(nn.Module):
    def forward(self, x):
        return x * 2


BEFORE = {
    "norm": (lambda: nn.LayerNorm(12), NOTHING),
    "norm, no bias": (lambda: nn.LayerNorm(12, bias=False), NOTHING),
    "norm, no affine": (lambda: nn.LayerNorm(12, elementwise_affine=False), NOTHING),
    "norm over two": (lambda: nn.LayerNorm((5, 12)), COLUMNS),
    "GELU": (nn.GELU, NOTHING),
    "tanh GELU": (lambda: nn.GELU("tanh"), NOTHING),
    "SiLU": (nn.SiLU, NOTHING),
    "SiLU in place": (lambda: nn.SiLU(inplace=True), NOTHING),
    "ReLU": (nn.ReLU, NOTHING),
    "ReLU in place": (lambda: nn.ReLU(inplace=True), NOTHING),
    "Tanh": (nn.Tanh, NOTHING),
    "Sigmoid": (nn.Sigmoid, NOTHING),
    "Softmax": (lambda: nn.Softmax(-1), NOTHING),
    "LogSoftmax": (lambda: nn.LogSoftmax(-1), COLUMNS),
    "LeakyReLU": (nn.LeakyReLU, COLUMNS),
    "ELU": (nn.ELU, COLUMNS),
    "views of ReLU": (lambda: nn.Sequential(nn.ReLU(), Half()), NOTHING),
    "no dropout": (lambda: nn.Sequential(nn.GELU(), nn.Dropout(0.0)), NOTHING),
    "product": (Own, COLUMNS),
}


@pytest.mark.parametrize("density", [0.01, 0.04])
@pytest.mark.parametrize("name", BEFORE)
def test_what_is_kept(twins_of, fill, draw, name, density):
    build, path = BEFORE[name]
    model = nn.Sequential(nn.Linear(12, 12), build(), nn.Linear(12, 20, bias=False))
    twins = twins_of(fill(model), density, T=3)
    twins.backward(draw(3, 5, 12))
    twins.check()
    assert path in twins.path("2.weight")


@pytest.mark.parametrize("name", [name for name, (_, path) in BEFORE.items() if path == NOTHING])
def test_nothing_means_nothing(twins_of, fill, draw, name):
    """No storage of the size of the layer's input, beside those that are there without it."""
    model = fill(nn.Sequential(nn.Linear(12, 12), BEFORE[name][0](), nn.Linear(12, 20, bias=False)))
    twins = twins_of(model)
    x = draw(300, 5, 12).requires_grad_()
    sizes = []
    for layers in (twins.sampled, twins.dense.requires_grad_(False)):
        large = set()

        def pack(tensor, large=large):
            if tensor.untyped_storage().nbytes() >= x.untyped_storage().nbytes():
                large.add(tensor.untyped_storage().data_ptr())
            return tensor

        with saved_tensors_hooks(pack, lambda tensor: tensor):
            out = layers(x)
        sizes.append(len(large - {x.untyped_storage().data_ptr()}))
        out.sum().backward()
    assert sizes[0] == sizes[1]


def test_a_module_of_somebody_else_is_left_alone(twins_of, fill, draw):
    """A class that is called GELU, or derives from LayerNorm, may do anything."""

    class GELU(nn.Module):
        def forward(self, x):
            return x.sin()

    class Norm(nn.LayerNorm):
        def forward(self, x):
            return super().forward(x) + x

    layers = nn.Linear(6, 6), GELU(), nn.Linear(6, 6), Norm(6), nn.Linear(6, 6)
    twins = twins_of(fill(nn.Sequential(*layers)))
    twins.backward(draw(5, 6))
    twins.check()
    assert type(twins.sampled[1]) is GELU
    assert type(twins.sampled[3]) is Norm


def test_one_input_of_many_layers(twins_of, fill, draw):
    class Three(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(6)
            self.q, self.k, self.v = (nn.Linear(6, 6) for _ in range(3))

        def forward(self, x):
            h = self.norm(x)
            return self.q(h) * self.k(h) + self.v(h.flip(0))

    twins = twins_of(fill(Three()))
    twins.backward(draw(5, 6))
    twins.check()
    assert NOTHING in twins.path("q.weight")
    assert COLUMNS in twins.path("v.weight")


def test_a_detached_input_keeps_its_columns(twins_of, fill, draw):
    twins = twins_of(fill(nn.Sequential(nn.Linear(6, 4))))
    x = draw(7, 6)
    for model in (twins.dense, twins.sampled):
        model(x).square().sum().backward()
    twins.check()
    assert "2 columns" in twins.path("0.weight")
    assert x.grad is None
    assert torch.is_tensor(twins.sampled[0].weight)
