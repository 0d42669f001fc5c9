"""On a GPU: the CPU's bits, the CPU's training, no waiting, one graph; skipped without a GPU."""

import copy

import pytest
import torch
from torch import nn

from snell_layers import SnellLinear, SnellRule
from snell_layers import update as twin
from snell_layers.kernels import gpu
from snell_layers.sparsify import order_statistic

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode"),
]

# pieces, heads, m, n, dims: small and odd, three pieces, a layer of ViT-B
SHAPES = [(1, 2, 1, 1, 1), (3, 2, 5, 7, 4), (1, 4, 17, 127, 8), (1, 2, 768, 3072, 4)]
SPARSIFIERS = ("released", "paper", "hard", "none")


def draw(shape, *, trained):
    pieces, heads, m, n, dims = shape
    rng = torch.Generator().manual_seed(0)
    sizes = [(pieces, heads, n, dims), (pieces, heads, m, dims), (pieces, heads)]
    inner, outer, scales = (torch.randn(size, generator=rng) for size in sizes)
    return inner, outer, scales if trained else None


def moved(factors):
    return tuple(None if f is None else f.cuda() for f in factors)


def make_rule(shape, sparsifier, trained=False):
    _, heads, _, _, dims = shape
    sparsity = 0.0 if sparsifier == "none" else 0.9
    kind = {"sparsity": sparsity, "sparsifier": sparsifier, "learn_coefficients": trained}
    return SnellRule(r=heads * dims, heads=heads, **kind)


@pytest.mark.parametrize("sparsifier", SPARSIFIERS)
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_matrix_and_threshold_have_the_bits_of_the_cpu(shape, trained, sparsifier):
    factors, rule = draw(shape, trained=trained), make_rule(shape, sparsifier, trained)
    assert gpu.runs(moved(factors), rule)
    weight = torch.randn(shape[0] * shape[2], shape[3], generator=torch.Generator().manual_seed(1))
    expected, tau = twin.build(factors, rule, weight=weight)
    for hint in (None, tau.cuda(), 2 * tau.cuda()):
        found, level = gpu.build(moved(factors), rule, weight=weight.cuda(), hint=hint)
        assert torch.equal(level.cpu(), tau)
        assert torch.equal(found.cpu(), expected)


@pytest.mark.parametrize("sparsifier", SPARSIFIERS)
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_of_the_factors(shape, trained, sparsifier):
    factors, rule = draw(shape, trained=trained), make_rule(shape, sparsifier, trained)
    grad = torch.randn(shape[0] * shape[2], shape[3], generator=torch.Generator().manual_seed(1))
    _, tau = twin.build(factors, rule)
    expected = twin.fold(grad, factors, rule, tau)
    found = gpu.fold(grad.cuda(), moved(factors), rule, tau.cuda())
    again = gpu.fold(grad.cuda(), moved(factors), rule, tau.cuda())
    for one, other, same in zip(found, expected, again, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert torch.equal(one, same)
            assert (one.cpu() - other).norm() <= 1e-5 * other.norm()


def test_roots_without_branches_have_the_bits_of_the_instructions():
    """For every finite number from zero up."""
    from roots_on_gpu import differing  # which needs Triton

    assert differing() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES[1:])
def test_the_matrix_over_its_gradient_is_that_of_the_forward(shape, dtype):
    factors, rule = moved(draw(shape, trained=False)), make_rule(shape, "released")
    size = shape[0] * shape[2], shape[3]
    weight, grad = (torch.randn(size, device="cuda", dtype=dtype) for _ in range(2))
    expected, tau = gpu.build(factors, rule, weight=weight, scale=1.25, dtype=dtype)
    wide, _ = gpu.build(factors, rule, weight=weight, scale=1.25)
    alone = gpu.fold(grad.clone(), factors, rule, tau, scale=1.25)
    found = gpu.fold(grad, factors, rule, tau, weight=weight, scale=1.25, replace=True)
    assert torch.equal(grad, expected)
    assert torch.equal(wide.to(dtype), expected)
    assert all(torch.equal(a, b) for a, b in zip(alone[:2], found[:2], strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(768, 3072), (4096, 11008)])
def test_threshold_equals_a_sort(shape):
    m, n = shape
    whole = (1, 2, m, n, 4)
    factors = moved(draw(whole, trained=False))
    w, _ = gpu.build(factors, make_rule(whole, "none"))
    removed = -(-9 * m * n // 10)
    order = w.abs().flatten().sort().values[removed - 1]
    _, tau = gpu.build(factors, make_rule(whole, "hard"))
    assert tau.item() == order.item()


def make(dtype=torch.float32):
    rng = torch.Generator().manual_seed(0)
    layers = [nn.Linear(64, 96), nn.Linear(96, 32)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.1, generator=rng)
        nn.init.zeros_(layer.bias)
    wrapped = [SnellLinear(layer, r=8, sparsity=0.9, seed=n) for n, layer in enumerate(layers)]
    return nn.Sequential(wrapped[0], nn.GELU(), wrapped[1]).to(dtype)


def batch(device):
    x = torch.randn(40, 64, generator=torch.Generator().manual_seed(2))
    return x.to(device), torch.arange(40).remainder(32).to(device)


def train(model, device, steps=6):
    model = copy.deepcopy(model).to(device)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    x, target = batch(device)
    losses = []
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(x), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    return torch.stack(losses).cpu(), model


def test_training_goes_as_on_the_cpu():
    model = make()
    (here, _), (there, _) = train(model, "cpu"), train(model, "cuda")
    assert here[-1] < here[0]
    torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-5)


def test_a_step_does_not_wait_for_the_gpu():
    _, model = train(make(), "cuda", steps=2)
    x, target = batch("cuda")
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        nn.functional.cross_entropy(model(x), target).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_step_is_one_graph():
    _, model = train(make(), "cuda", steps=1)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, capturable=True)
    x, target = batch("cuda")

    def step():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), target)
        loss.backward()
        optimizer.step()
        return loss

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()
    seen = []
    for _ in range(5):
        graph.replay()
        seen.append(loss.item())
    assert seen == sorted(seen, reverse=True)
    assert seen[-1] < seen[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype):
    model = make().cuda()
    x, target = batch("cuda")
    with torch.autocast("cuda", dtype=dtype):
        low = nn.functional.cross_entropy(model(x), target)
    wide = nn.functional.cross_entropy(model(x), target)
    low.backward()
    torch.testing.assert_close(low, wide, rtol=0.02, atol=0.02)
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9, 0.999])
def test_the_order_statistic_of_a_matrix_does_not_wait(sparsity):
    w = torch.randn(768, 3072, generator=torch.Generator().manual_seed(0))
    expected, there = order_statistic(w, sparsity), w.cuda()
    order_statistic(there, sparsity)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = order_statistic(there, sparsity)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(found.cpu(), expected)
