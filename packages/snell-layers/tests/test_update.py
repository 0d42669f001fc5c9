"""Tiles change nothing but memory: the matrix keeps its bits, the gradients their digits."""

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from snell_layers import SnellRule, kernels, snell_linear, update
from snell_layers.kernel import KERNELS
from snell_layers.sparsify import SPARSIFIERS


@pytest.fixture
def small_tiles(monkeypatch):
    """A few rows, or columns where the kernel wants whole columns."""
    monkeypatch.setattr(update, "LEAST", 1)
    monkeypatch.setattr(update, "TILE", 50)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("sparsifier", SPARSIFIERS)
def test_tiles_equal_the_whole(
    make_factors, make_coefficients, kernel, sparsifier, monkeypatch, request
):
    rule = SnellRule(8, 0.0 if sparsifier == "none" else 0.6, kernel, sparsifier)
    inner, outer = (f.detach() for f in make_factors(rule, 21, 17, pieces=2))
    coefficients = make_coefficients(rule, pieces=2)
    factors = inner, outer, None if coefficients is None else coefficients.detach()
    rng = torch.Generator().manual_seed(2)
    weight, grad = (torch.randn(42, 17, generator=rng, dtype=inner.dtype) for _ in range(2))
    options = {"weight": weight.to(inner.device), "scale": 1.25}
    whole, tau = update.build(factors, rule, **options)
    wanted = update.fold(grad, factors, rule, tau, scale=1.25)
    request.getfixturevalue("small_tiles")
    assert len(list(update._tiles(rule, 21, 17))) > 5
    exact = {"rtol": 1e-12, "atol": 1e-12}  # thin products may be added up in another order
    tiles, again = update.build(factors, rule, **options)
    torch.testing.assert_close(tiles, whole, **exact)
    torch.testing.assert_close(again, tau, **exact)
    assert torch.equal(update.build(factors, rule, threshold=again, **options)[0], tiles)
    found = update.fold(grad, factors, rule, again, replace=True, **options)
    assert torch.equal(grad, tiles)
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, **exact)


class Peak(TorchDispatchMode):
    """The most that is allocated at once, in numbers, counted as tensors come and go."""

    def __init__(self):
        super().__init__()
        self.alive, self.now, self.most = {}, 0, 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        for tensor in tree_leaves((arguments, options)):
            self.see(tensor, new=False)
        result = function(*arguments, **(options or {}))
        for tensor in tree_leaves(result):
            self.see(tensor, new=True)
        return result

    def see(self, tensor, *, new):
        if not isinstance(tensor, torch.Tensor):
            return
        storage = tensor.untyped_storage()
        if storage._cdata not in self.alive:
            self.alive[storage._cdata] = storage.nbytes() / 4 if new else 0
            self.now += self.alive[storage._cdata]
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self.drop, storage._cdata)

    def drop(self, key):
        self.now -= self.alive.pop(key, 0)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("shape", [(768, 768), (512, 2048)])
def test_the_transient_of_a_layer_is_one_matrix_and_a_half_at_most(shape, compiled, device):
    rows, columns = shape
    rule = SnellRule(8, 0.9)
    rng = torch.Generator().manual_seed(0)
    inner, outer = (
        (torch.randn(1, 2, k, 4, generator=rng) / 50).to(device).requires_grad_()
        for k in (columns, rows)
    )
    weight = torch.randn(shape, generator=rng).to(device)
    x = torch.randn(2, columns, generator=rng).to(device).requires_grad_()
    with kernels.use(compiled):
        y, _ = snell_linear(x, inner, outer, rule, weight=weight)  # compiles
        with Peak() as forward:
            y, _ = snell_linear(x, inner, outer, rule, weight=weight)
        loss = y.sum()
        with Peak() as backward:
            loss.backward()
    assert 1 <= forward.most / weight.numel() <= 1.5
    assert 1 <= backward.most / weight.numel() <= 1.5
