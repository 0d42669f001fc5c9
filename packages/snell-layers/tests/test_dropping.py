"""Dropout on the update's input and drop-path on its samples: as the release, masks and all."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from snell_layers import SnellLinear, SnellRule, snell_linear
from snell_layers.reference import SnellLinearReference

OPTIONS = [(0.3, 0.0), (0.0, 0.4), (0.3, 0.4)]


def as_in_paper(factor):
    return factor.detach()[0].permute(1, 0, 2).flatten(1)


@pytest.fixture
def seeded():
    """Masks come from torch's own generator, as those of nn.Dropout."""
    with torch.random.fork_rng():
        torch.manual_seed(11)
        yield


def pair(device, dropout, drop_path, base=None):
    base = base or nn.Linear(24, 20).to(device, torch.float64)
    fast = SnellLinear(base, 8, 0.5, dropout=dropout, drop_path=drop_path).to(device)
    slow = SnellLinearReference(
        base.weight,
        base.bias,
        as_in_paper(fast.factors.inner),
        as_in_paper(fast.factors.outer),
        s=0.5,
        kernel="piecewise_linear",
        sparsifier="released",
    )
    return fast, slow


def masks(x, dropout, drop_path):
    """The masks that a layer draws next, in the form of the release."""
    with torch.random.fork_rng():
        on_input = F.dropout(torch.ones_like(x), dropout) if dropout else 1.0
        kept = torch.rand(len(x)) >= drop_path
    on_samples = kept.to(x) / (1 - drop_path)
    return on_input, on_samples.view(-1, *[1] * (x.dim() - 1))


@pytest.mark.parametrize(("dropout", "drop_path"), OPTIONS)
@pytest.mark.parametrize("shape", [(9, 24), (6, 4, 24), (5, 2, 3, 24)])
def test_training_equals_the_release_with_its_masks(device, rng, seeded, dropout, drop_path, shape):
    fast, slow = pair(device, dropout, drop_path)
    x = torch.randn(shape, generator=rng, dtype=torch.float64).to(device).requires_grad_()
    on_input, on_samples = masks(x, dropout, drop_path)
    assert not drop_path or 0 < (on_samples == 0).sum() < len(x), "this seed tests nothing"
    ours, theirs = fast(x), slow(x, on_input, on_samples)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    upstream = torch.randn(ours.shape, generator=rng, dtype=torch.float64).to(device)
    for a, b in zip(
        torch.autograd.grad(ours, (x, *fast.factors.parameters()), upstream),
        torch.autograd.grad(theirs, (x, slow.A, slow.B), upstream),
        strict=True,
    ):
        b = b if a.dim() == b.dim() else b.view(len(b), 2, 4).transpose(0, 1)[None]
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("dropout", "drop_path"), OPTIONS)
def test_evaluation_drops_nothing_and_draws_nothing(device, rng, dropout, drop_path):
    fast, _ = pair(device, dropout, drop_path)
    plain = SnellLinear(fast.base, 8, 0.5).to(device)
    x = torch.randn(4, 24, generator=rng, dtype=torch.float64).to(device)
    state = torch.get_rng_state()
    assert torch.equal(fast.eval()(x), plain.eval()(x))
    assert torch.equal(plain.train()(x), plain.eval()(x))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_mean_over_many_masks_is_the_update(device, rng, seeded):
    fast, _ = pair(device, 0.2, 0.2)
    x = torch.randn(3, 24, generator=rng, dtype=torch.float64).to(device)
    with torch.no_grad():
        mean = torch.stack([fast(x) - fast.base(x) for _ in range(3000)]).mean(0)
        exact = x @ fast.delta_weight().T
    assert (mean - exact).norm() < 0.1 * exact.norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_bases_drop_too(device, rng, seeded, dtype):
    base = nn.Linear(24, 20, bias=False).to(device, dtype)
    base.weight.data.zero_()
    fast, slow = pair(device, 0.3, 0.4, base)
    x = torch.randn(6, 4, 24, generator=rng).to(device, dtype).requires_grad_()
    on_input, on_samples = masks(x, 0.3, 0.4)
    slow.weight = slow.weight.float()
    exact = slow(x.detach().float(), on_input.float(), on_samples.float())
    y = fast(x)
    assert y.dtype == dtype
    assert (y.float() - exact).norm() < 0.01 * exact.norm()
    y.sum().backward()
    assert x.grad.isfinite().all()
    assert (x.grad[on_samples.flatten() == 0] == 0).all()


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_draws_the_same_masks_again(device, rng, reentrant):
    fast, _ = pair(device, 0.3, 0.4)
    x = torch.randn(6, 24, generator=rng, dtype=torch.float64).to(device).requires_grad_()
    found = []
    for call in (fast, lambda x: checkpoint(fast, x, use_reentrant=reentrant)):
        with torch.random.fork_rng():
            torch.manual_seed(5)
            fast.zero_grad()
            call(x).square().sum().backward()
        found.append([p.grad.clone() for p in fast.factors.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_drop_path_keeps_indices_alone(device, rng, seeded):
    layer = SnellLinear(nn.Linear(96, 128), 8, 0.9, drop_path=0.4).to(device)
    x = torch.randn(6, 3, 96, generator=rng).to(device).requires_grad_()
    own = {t.untyped_storage().data_ptr() for t in [*layer.parameters(), *layer.buffers(), x]}
    saved = []

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in own:
            saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(x).sum().backward()
    assert sum(saved) <= 1 + len(x), f"beside parameters and input: {saved}"


@pytest.mark.parametrize("kept", [[], [0, 1, 2, 3], [2, 0]])
def test_any_choice_of_samples(make_factors, rng, kept):
    rule = SnellRule(4, 0.5)
    inner, outer = make_factors(rule, 5, 6)
    device = inner.device
    x, weight, bias = (
        torch.randn(shape, generator=rng, dtype=torch.float64).to(device).requires_grad_()
        for shape in ((4, 3, 6), (5, 6), (5,))
    )
    samples = torch.tensor(kept, dtype=torch.int64)
    options = {"weight": weight, "bias": bias}
    y, _ = snell_linear(x, inner, outer, rule, samples=samples, scale=2.0, **options)
    branch, _ = snell_linear(x, inner, outer, rule)
    on = torch.zeros(4, 1, 1, dtype=torch.float64, device=device)
    on[samples] = 2
    expected = F.linear(x, weight, bias) + on * branch
    torch.testing.assert_close(y, expected)
    tensors = (x, weight, bias, inner, outer)
    for a, b in zip(
        torch.autograd.grad(y.square().sum(), tensors),
        torch.autograd.grad(expected.square().sum(), tensors),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_a_vector_is_one_sample(device, rng, seeded):
    layer = SnellLinear(nn.Linear(24, 20), 8, 0, drop_path=0.5).to(device, torch.float64)
    x = torch.randn(24, generator=rng, dtype=torch.float64).to(device)
    with torch.no_grad():
        branch = layer.eval()(x) - layer.base(x)
        shares = [((layer.train()(x) - layer.base(x)) / branch).mean().item() for _ in range(20)]
    assert {round(share, 6) for share in shares} == {0.0, 2.0}


@pytest.mark.parametrize("name", ["dropout", "drop_path"])
def test_bad_shares_are_named(name):
    with pytest.raises(ValueError, match=rf"{name} must be at least 0 \(off\).*but is 1\.5"):
        SnellLinear(nn.Linear(24, 20), **{name: 1.5})
