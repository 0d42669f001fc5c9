"""Every kind of layer: the compact gradient is the dense gradient at the support."""

import pytest
import torch
from torch import nn

LAYERS = {
    "linear": (lambda: nn.Linear(7, 5), (6, 7), "sampled as Linear"),
    "no bias": (lambda: nn.Linear(7, 5, bias=False), (6, 7), "sampled as Linear"),
    "one token": (lambda: nn.Linear(7, 5), (7,), "sampled as Linear"),
    "tokens": (lambda: nn.Linear(7, 5), (3, 4, 7), "sampled as Linear"),
    "grid": (lambda: nn.Linear(7, 5), (2, 3, 4, 7), "sampled as Linear"),
    "no tokens": (lambda: nn.Linear(7, 5), (0, 7), "sampled as Linear"),
    "patches": (lambda: nn.Conv2d(3, 4, 2, 2), (2, 3, 6, 4), "sampled as Patches"),
    "patches, pixels over": (lambda: nn.Conv2d(3, 4, (2, 3), (2, 3)), (2, 3, 7, 8), "Patches"),
    "patches, no bias": (lambda: nn.Conv2d(3, 4, 2, 2, bias=False), (1, 3, 4, 4), "Patches"),
    "patches of one image": (lambda: nn.Conv2d(3, 4, 2, 2), (3, 6, 4), "sampled as Patches"),
    "patches of no image": (lambda: nn.Conv2d(3, 4, 2, 2), (0, 3, 6, 4), "sampled as Patches"),
    "valid": (lambda: nn.Conv2d(3, 4, 2, 2, padding="valid"), (2, 3, 4, 4), "Patches"),
    "convolution": (lambda: nn.Conv2d(3, 4, 3), (2, 3, 6, 5), "dense gradient, gathered"),
    "padded": (lambda: nn.Conv2d(3, 4, 2, 2, padding=1), (2, 3, 6, 4), "dense gradient"),
    "grouped": (lambda: nn.Conv2d(4, 4, 2, 2, groups=2), (2, 4, 6, 4), "dense gradient"),
    "bilinear": (lambda: nn.Bilinear(3, 4, 2), (5, 3), "dense gradient, gathered"),
    "norm": (lambda: nn.LayerNorm(5), (4, 5), "dense gradient, gathered"),
}


@pytest.mark.parametrize("density", [1e-9, 0.01, 0.1, 1.0])
@pytest.mark.parametrize("name", LAYERS)
def test_gradient_is_the_dense_one_at_the_support(twins_of, fill, draw, name, density):
    build, shape, path = LAYERS[name]
    twins = twins_of(fill(build()), density, dense=False)
    inputs = [draw(*shape)] + ([draw(5, 4)] if name == "bilinear" else [])
    twins.backward(*inputs)
    twins.check()
    assert path in twins.path("weight")


@pytest.mark.parametrize("frozen", ["input", "bias", "both"])
@pytest.mark.parametrize("name", ["linear", "patches"])
def test_what_is_frozen_gets_no_gradient(twins_of, fill, draw, name, frozen):
    build, shape, _ = LAYERS[name]
    model = fill(build())
    model.bias.requires_grad_(frozen == "input")
    twins = twins_of(model)
    if frozen == "bias":
        twins.backward(draw(*shape))
    else:
        x = draw(*shape)
        for each in (twins.dense, twins.sampled):
            each(x).square().sum().backward()
    twins.check()
    assert (twins.sampled.bias.grad is None) == (frozen != "input")


EMBEDDINGS = {
    "plain": ({}, "sampled as Embedding"),
    "padding": ({"padding_idx": 2}, "sampled as Embedding"),
    "negative padding": ({"padding_idx": -1}, "sampled as Embedding"),
    "max_norm": ({"max_norm": 0.5}, "sampled as Embedding"),
    "scaled": ({"scale_grad_by_freq": True}, "dense gradient, gathered"),
}
TOKENS = {
    "repeated": [[1, 1, 2], [5, 1, 2]],
    "one": [0],
    "all": [0, 1, 2, 3, 4, 5],
    "the last alone": [5, 5],
    "none": [],
}


@pytest.mark.parametrize("density", [0.1, 1.0])
@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("kind", EMBEDDINGS)
def test_embeddings(twins_of, fill, kind, tokens, density):
    options, path = EMBEDDINGS[kind]
    twins = twins_of(fill(nn.Embedding(6, 4, **options)), density)
    twins.backward(torch.tensor(TOKENS[tokens], dtype=torch.int64))
    twins.check()
    assert path in twins.path("weight")
    torch.testing.assert_close(twins.sampled.weight, twins.dense.weight, rtol=0, atol=0)


def test_an_embedding_with_sparse_gradients(twins_of, fill):
    """Sampled, its gradient is a compact dense leaf like any other."""
    twins = twins_of(fill(nn.Embedding(6, 4, sparse=True)))
    twins.backward(torch.tensor([1, 1, 3]))
    twins.dense.weight.grad = twins.dense.weight.grad.to_dense()
    twins.check()
    assert twins.path("weight").startswith("dense gradient, gathered")


@pytest.mark.parametrize("density", [0.05, 1.0])
@pytest.mark.parametrize("shape", [(7,), (4, 7), (2, 3, 7)])
def test_conv1d_of_transformers(twins_of, fill, draw, shape, density):
    utils = pytest.importorskip("transformers.pytorch_utils")
    twins = twins_of(fill(utils.Conv1D(5, 7)), density)
    twins.backward(draw(*shape))
    twins.check()
    assert twins.path("weight").startswith("sampled as Conv1D")


class Tied(nn.Module):
    """An embedding whose table is the decoder's matrix, and a matrix of the root's own."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(9, 4)
        self.mix = nn.Parameter(torch.empty(4, 4))
        self.decoder = nn.Linear(4, 9)
        self.decoder.weight = self.embedding.weight

    def forward(self, tokens):
        return self.decoder(self.embedding(tokens) @ self.mix)


@pytest.mark.parametrize("density", [0.05, 0.5])
def test_tied_weights_and_a_matrix_of_the_root(twins_of, fill, density):
    twins = twins_of(fill(Tied()), density)
    assert twins.sampled.decoder.weight_at_support is twins.sampled.embedding.weight_at_support
    assert len(twins.sampling.leaves) == 2
    twins.backward(torch.tensor([[1, 2, 2], [8, 0, 1]]))
    twins.check()
    assert "sampled as Embedding and sampled as Linear" in twins.path("embedding.weight")
    assert twins.path("mix").startswith("dense gradient, gathered")


def test_recurrent_layers_stay_dense(twins_of, fill, draw):
    twins = twins_of(fill(nn.Sequential(nn.Linear(3, 3), nn.GRU(3, 2))))
    twins.backward(draw(5, 3), call=lambda model, x: model(x)[0])
    twins.check()
    assert set(twins.sampling.leaves) == {dict(twins.sampled.named_parameters())["0.weight"]}


def test_lists_of_parameters(twins_of, fill, draw):
    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.factors = nn.ParameterList([torch.empty(4, 5), torch.empty(5, 3)])
            self.named = nn.ParameterDict({"last": torch.empty(3, 2)})

        def forward(self, x):
            for factor in self.factors:
                x = x @ factor
            return x @ self.named["last"]

    twins = twins_of(fill(Product()))
    twins.backward(draw(6, 4))
    twins.check()
    assert len(twins.sampling.leaves) == 3
    assert len(twins.sampled.factors) == 2


def test_a_sampled_bias_beside_a_dense_weight(fill, draw):
    """Any shape may have a support, alone or together."""
    from so_optim import SO

    x = draw(5, 4)
    for dense, sampled in (("weight", "bias"), ("bias", "weight")):
        model, twin = fill(nn.Linear(4, 6)), nn.Linear(4, 6).double()
        twin.load_state_dict(model.state_dict())
        groups = [
            {"params": [getattr(model, dense)], "dense": True},
            {"params": [getattr(model, sampled)], "dense": False},
        ]
        sampling = SO(groups, density_ratio=0.5).sample_gradients(model)
        for each in (model, twin):
            each(x).square().sum().backward()
        (leaf,) = sampling.leaves.values()
        expected = getattr(twin, sampled).grad.flatten()[leaf.positions()]
        torch.testing.assert_close(leaf.values.grad, expected, rtol=1e-12, atol=0)
        torch.testing.assert_close(getattr(model, dense).grad, getattr(twin, dense).grad)


def test_a_transposed_weight(twins_of, fill, draw):
    """Positions are row-major whatever the strides."""
    model = fill(nn.Linear(6, 4))
    model.weight = nn.Parameter(model.weight.detach().t().contiguous().t())
    twins = twins_of(model)
    twins.backward(draw(5, 6))
    twins.check()
    twins.sampling.undo()
    at = twins.sampled.weight.grad.flatten().nonzero().view(-1)
    grads = [each.weight.grad.flatten()[at] for each in (twins.sampled, twins.dense)]
    torch.testing.assert_close(*grads, rtol=1e-12, atol=0)
    assert len(at) == 2
