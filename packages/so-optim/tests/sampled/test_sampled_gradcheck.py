"""The autograd functions by themselves: finite differences, and any density."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from so_optim.sampled.attention import recomputed_attention
from so_optim.sampled.embedding import sampled_embedding
from so_optim.sampled.gathered import gathered
from so_optim.sampled.linear import sampled_linear
from so_optim.sampled.mlp import Layer, chunked_mlp
from so_optim.sampled.patches import sampled_patches
from so_optim.sampled.producers import ACTIVATIONS, activate, norm
from so_optim.sampled.sddmm import DENSE_ABOVE
from so_optim.support import draw_support

DENSITIES = st.one_of(
    st.just(1e-9),  # a single entry
    st.floats(1e-3, DENSE_ABOVE),
    st.floats(DENSE_ABOVE, 1.0),
)


def matrix(rng, m, n, k):
    """A weight and where its leaf reads; the forward pass adds the leaf there in `by_hand`."""
    at = draw_support(m * n, k, rng)
    weight = torch.randn(m, n, generator=rng, dtype=torch.float64)
    return SimpleNamespace(W=weight, rows=at // n, cols=at % n, k=k, at=at)


def with_leaf(own, values):
    """The weight that the leaf stands for."""
    return own.W.index_put((own.rows, own.cols), values, accumulate=True)


def zeros(k):
    return torch.zeros(k, dtype=torch.float64, requires_grad=True)


def assert_gradients_of(function, by_hand, *inputs):
    """A function that only knows the leaf as zero, against autograd through the whole weight."""
    ours, theirs = function(*inputs), by_hand(*inputs)
    torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)
    cotangent = torch.sin(torch.arange(ours.numel()).double()).view_as(ours)
    wanted = [each for each in inputs if each.requires_grad]
    left = torch.autograd.grad(ours, wanted, cotangent)
    right = torch.autograd.grad(theirs, wanted, cotangent)
    for a, b in zip(left, right, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12 * max(1.0, b.abs().max().item()))


@settings(max_examples=40, deadline=None)
@given(
    m=st.integers(1, 30),
    n=st.integers(1, 30),
    tokens=st.integers(1, 300),
    density=DENSITIES,
    seed=st.integers(0, 2**31),
    transposed=st.booleans(),
)
def test_linear_at_any_density(m, n, tokens, density, seed, transposed):
    rng = torch.Generator().manual_seed(seed)
    own = matrix(rng, m, n, max(1, int(density * m * n)))
    x = torch.randn(tokens, n, generator=rng, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(m, generator=rng, dtype=torch.float64, requires_grad=True)
    stored = own.W.t().contiguous() if transposed else own.W
    assert_gradients_of(
        lambda x, b, leaf: sampled_linear(
            x, stored, b, leaf, own.rows, own.cols, transposed=transposed
        )[0],
        lambda x, b, leaf: F.linear(x, with_leaf(own, leaf), b),
        *(x, bias, zeros(own.k)),
    )


@pytest.mark.parametrize("k", [1, 3, 40])
@pytest.mark.parametrize("before", ["nothing", "norm", "GELU", "tanh GELU", "QuickGELU", "SiLU"])
def test_linear_after_what_keeps_its_input(rng, before, k):
    """Finite differences of the whole chain, columns being rebuilt from the neighbour's input."""
    own = matrix(rng, 5, 8, k)
    x = torch.randn(3, 4, 8, generator=rng, dtype=torch.float64, requires_grad=True)
    affine = torch.rand(2, 8, generator=rng, dtype=torch.float64) + 0.5

    def produced(x):
        if before == "nothing":
            return x
        return norm(x, *affine, 1e-5) if before == "norm" else activate(x, before)

    def plain(x):
        if before == "nothing":
            return x
        if before == "norm":
            return F.layer_norm(x, (8,), *affine, 1e-5)
        return x * torch.sigmoid(1.702 * x) if before == "QuickGELU" else ACTIVATIONS[before](x)

    at = (own.rows, own.cols)
    leaf = zeros(k)
    _, kept = sampled_linear(produced(x), own.W, None, leaf, *at)
    alone = "its input" if k > 8 else f"{k} columns"
    assert kept.startswith(alone if before == "nothing" else "nothing")
    assert_gradients_of(
        lambda x, leaf: sampled_linear(produced(x), own.W, None, leaf, *at)[0],
        lambda x, leaf: F.linear(plain(x), with_leaf(own, leaf)),
        *(x, leaf),
    )
    assert torch.autograd.gradcheck(
        lambda x: sampled_linear(produced(x), own.W, None, leaf, *at)[0], (x,)
    )


@pytest.mark.parametrize("k", [1, 24])
def test_patches_embeddings_and_gathering(rng, k):
    own = matrix(rng, 3, 8, k)
    image = torch.randn(2, 2, 5, 4, generator=rng, dtype=torch.float64, requires_grad=True)
    assert_gradients_of(
        lambda x, leaf: sampled_patches(x, own.W.view(3, 2, 2, 2), None, leaf, own.rows, own.cols),
        lambda x, leaf: F.conv2d(x, with_leaf(own, leaf).view(3, 2, 2, 2), None, 2),
        *(image, zeros(k)),
    )
    assert torch.autograd.gradcheck(
        lambda x: sampled_patches(x, own.W.view(3, 2, 2, 2), None, zeros(k), own.rows, own.cols),
        (image,),
    )
    tokens = torch.tensor([[1, 1], [2, 1]])
    assert_gradients_of(
        lambda leaf: sampled_embedding(tokens, own.W, leaf, own.rows, own.cols),
        lambda leaf: F.embedding(tokens, with_leaf(own, leaf)),
        zeros(k),
    )
    assert_gradients_of(
        lambda leaf: gathered(own.W, leaf, own.at).tanh(),
        lambda leaf: with_leaf(own, leaf).tanh(),
        zeros(k),
    )


@pytest.mark.parametrize("keep_hidden", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("tokens", [1, 7, 3000])
@pytest.mark.parametrize("k", [1, 30])
def test_mlp(rng, k, tokens, activation, keep_hidden):
    """3000 tokens are several chunks."""
    first, second = matrix(rng, 6, 5, k), matrix(rng, 5, 6, k)
    x = torch.randn(tokens, 5, generator=rng, dtype=torch.float64, requires_grad=True)
    biases = torch.randn(2, 6, generator=rng, dtype=torch.float64)
    b1, b2 = biases[0].clone().requires_grad_(), biases[1, :5].clone().requires_grad_()

    def ours(x, b1, b2, leaf_1, leaf_2):
        layers = (
            Layer(first.W, b1, leaf_1, first.rows, first.cols),
            activation,
            Layer(second.W, b2, leaf_2, second.rows, second.cols),
        )
        return chunked_mlp(x, *layers, keep_hidden=keep_hidden)

    def theirs(x, b1, b2, leaf_1, leaf_2):
        hidden = ACTIVATIONS[activation](F.linear(x, with_leaf(first, leaf_1), b1))
        return F.linear(hidden, with_leaf(second, leaf_2), b2)

    inputs = (x, b1, b2, zeros(k), zeros(k))
    assert_gradients_of(ours, theirs, *inputs)
    if tokens == 7:
        assert torch.autograd.gradcheck(lambda *three: ours(*three, *inputs[3:]), inputs[:3])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("projections", [1, 3])
@pytest.mark.parametrize("samples", [1, 300])
def test_recomputed_attention(rng, samples, projections, causal):
    """300 samples of 7 tokens are several groups."""
    heads, length, width, k = 2, 7, 4, 5
    parts = [matrix(rng, 3 * width // projections, width, k) for _ in range(projections)]
    x = torch.randn(samples, length, width, generator=rng, dtype=torch.float64, requires_grad=True)
    leaves = [zeros(k) for _ in parts]

    def ours(x, *leaves):
        layers = [
            Layer(part.W, None, leaf, part.rows, part.cols)
            for part, leaf in zip(parts, leaves, strict=True)
        ]
        return recomputed_attention(x, tuple(layers), heads, causal=causal)

    def theirs(x, *leaves):
        weight = torch.cat([with_leaf(*pair) for pair in zip(parts, leaves, strict=True)])
        qkv = F.linear(x, weight).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(*qkv.unbind(), is_causal=causal)
        return out.transpose(1, 2).flatten(2)

    assert_gradients_of(ours, theirs, x, *leaves)
    if samples == 1:
        assert torch.autograd.gradcheck(lambda x: ours(x, *leaves), (x,))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_twice_through_a_layer_is_refused_clearly(rng, name):
    own = matrix(rng, 3, 4, 2)
    x = torch.randn(5, 4, generator=rng, dtype=torch.float64, requires_grad=True)
    leaf = zeros(2)
    y, _ = sampled_linear(activate(x, name), own.W, None, leaf, own.rows, own.cols)
    (grad,) = torch.autograd.grad(y.square().sum(), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()
