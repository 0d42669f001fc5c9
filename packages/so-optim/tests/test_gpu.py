"""On a GPU: the kernels' twins, the CPU's training, no waiting; skipped without a GPU."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from so_optim import SO
from so_optim.kernels import runs_on

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode"),
]
SETTINGS = {"lr": 1e-2, "density_ratio": 0.05, "T": 3}
ACTIVATIONS = {
    "identity": lambda x: x,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "silu": F.silu,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rebuild", ACTIVATIONS)
def test_sampled_product(rebuild, dtype):
    from so_optim.kernels.sddmm import sampled_product_triton

    rng = torch.Generator().manual_seed(0)
    dy, x = (torch.randn(1576, width, generator=rng).to(dtype).cuda() for width in (768, 384))
    flat = torch.randint(768 * 384, (1000,), generator=rng).sort().values.cuda()
    i, j = flat // 384, flat % 384
    found = sampled_product_triton(dy, x, i, j, rebuild=rebuild)
    # The forward's own rounding, and then no further one.
    inputs = ACTIVATIONS[rebuild](x).double()
    terms = dy.double()[:, i] * inputs[:, j]
    error = (found.double() - terms.sum(0)).abs()
    half_step = 1e-6 if dtype == torch.float32 else torch.finfo(dtype).eps
    assert (error <= half_step * terms.abs().sum(0)).all()


def build(device, sampled, dtype=torch.float32, **settings):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mlp = [nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 16), nn.LayerNorm(16)]
        model = nn.Sequential(nn.Embedding(50, 16), *mlp, nn.Linear(16, 5)).to(device, dtype)
    optimizer = SO(model.parameters(), **SETTINGS, **settings)
    if sampled:
        optimizer.sample_gradients(model)
    return model, optimizer


def loss_of(model, number, device):
    rng = torch.Generator().manual_seed(number)
    out = model(torch.randint(50, (4, 7), generator=rng).to(device))
    return out.float().square().mean()


def train(device, sampled, steps=9, **settings):
    model, optimizer = build(device, sampled, **settings)
    start = copy.deepcopy(model.state_dict())
    for number in range(steps):
        loss_of(model, number, device).backward()
        optimizer.step()
        optimizer.zero_grad()
    return start, model.state_dict()


@pytest.mark.parametrize("prune", ["after_update", "before_update"])
@pytest.mark.parametrize("sampled", [False, True])
def test_training_goes_as_on_the_cpu(sampled, prune):
    start, here = train("cpu", sampled, prune=prune)
    _, there = train("cuda", sampled, prune=prune)
    for name, weight in here.items():
        moved, found = weight - start[name], there[name].cpu() - start[name]
        assert torch.equal(moved != 0, found != 0), name  # the same supports
        assert (found - moved).norm() <= 1e-3 * moved.norm(), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_weights_train(dtype):
    model, optimizer = build("cuda", True, dtype)
    first = loss_of(model, 0, "cuda").item()
    for _ in range(9):
        loss = loss_of(model, 0, "cuda")
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss_of(model, 0, "cuda").item() < first


def test_a_step_is_one_launch_of_the_kernel(monkeypatch):
    from so_optim.kernels import step

    seen = []
    launch = step.packed_step_triton

    def watched(*arguments, **named):
        seen.append(True)
        return launch(*arguments, **named)

    monkeypatch.setattr(step, "packed_step_triton", watched)
    assert runs_on(torch.device("cuda:0"))
    train("cuda", True, steps=3)
    assert seen


@pytest.mark.parametrize("sampled", [False, True])
def test_steps_within_a_window_do_not_wait(sampled):
    model, optimizer = build("cuda", sampled)
    batches = [torch.randint(50, (4, 7), device="cuda") for _ in range(12)]

    def step(ids):
        model(ids).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    for ids in batches[:10]:  # three windows: every kernel is compiled, a new window is open
        step(ids)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(batches[10])
        step(batches[11])
    finally:
        torch.cuda.set_sync_debug_mode("default")
