"""SO is a torch optimizer: everything that works with Adam works with it."""

import copy

import pytest
import torch
from torch import nn

from so_optim import SO


def small_model(generator):
    """A bit of everything: tied weights, an embedding, a convolution, a norm, a scalar."""

    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(11, 8)
            self.conv = nn.Conv1d(8, 8, 3, padding=1)
            self.norm = nn.LayerNorm(8)
            self.decoder = nn.Linear(8, 11, bias=False)
            self.decoder.weight = self.embedding.weight
            self.scale = nn.Parameter(torch.tensor(1.0))
            self.unused = nn.Linear(3, 3)

        def forward(self, tokens):
            x = self.conv(self.embedding(tokens).mT).mT
            return self.scale * self.decoder(self.norm(x))

    model = Small()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


@pytest.fixture
def model(rng, device):
    return small_model(rng).to(device)


@pytest.fixture
def loss_of(rng, device):
    tokens = torch.randint(11, (4, 6), generator=rng).to(device)
    target = tokens.roll(1, dims=1)

    def loss(model):
        return nn.functional.cross_entropy(model(tokens).flatten(0, 1), target.flatten())

    return loss


def run(model, optimizer, loss_of, steps):
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_trains_a_model_of_every_kind_of_parameter(model, loss_of):
    unused = copy.deepcopy(model.unused.state_dict())
    losses = run(model, SO(model.parameters(), lr=0.02, density_ratio=0.1), loss_of, 80)
    assert losses[-1] < 0.5 * losses[0]
    torch.testing.assert_close(model.unused.state_dict(), unused, rtol=0, atol=0)


def test_a_seed_gives_the_same_bits_twice(model, loss_of):
    other = copy.deepcopy(model)
    for each in (model, other):
        run(each, SO(each.parameters(), lr=0.02, density_ratio=0.1, seed=3), loss_of, 25)
    torch.testing.assert_close(model.state_dict(), other.state_dict(), rtol=0, atol=0)


def test_named_parameters(model, loss_of):
    optimizer = SO(model.named_parameters(), lr=0.02)
    run(model, optimizer, loss_of, 2)
    assert "embedding.weight" in optimizer.param_groups[0]["param_names"]


def test_closure_returns_the_loss_and_has_gradients(model, loss_of):
    optimizer = SO(model.parameters(), lr=0.02, density_ratio=0.1)

    def closure():
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(20)]
    assert losses[-1] < losses[0]
    assert optimizer.step() is None


@pytest.mark.parametrize(
    "build",
    [
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=10),
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, max_lr=0.1, total_steps=10),
        lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda step: 0.5**step),
    ],
    ids=["cosine", "one-cycle", "lambda"],
)
@pytest.mark.parametrize("kind", [float, torch.tensor, lambda lr: torch.tensor([lr])])
def test_schedulers_scale_the_step(make_weights, build, kind):
    (weight,) = make_weights((20, 20))
    optimizer = SO([weight], lr=kind(0.02), betas=(0.0, 0.0), eps=0.0, density_ratio=0.05)
    scheduler = build(optimizer)
    for _ in range(8):
        before = weight.detach().clone()
        weight.grad = torch.full_like(weight, 7.0)
        optimizer.param_groups[0]["betas"] = (0.0, 0.0)  # OneCycleLR cycles them
        optimizer.step()
        moved = (before - weight.detach()).abs().max().item()
        assert moved == pytest.approx(float(optimizer.param_groups[0]["lr"]), rel=1e-4)
        scheduler.step()


def test_a_tensor_lr_gives_the_trajectory_of_a_number(make_weights, set_grads):
    ours, theirs = make_weights((8, 9), (), (3,)), make_weights((8, 9), (), (3,))
    with torch.no_grad():
        for a, b in zip(ours, theirs, strict=True):
            b.copy_(a)
    common = {"density_ratio": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}
    first = SO(ours, lr=0.25, **common)
    second = SO(theirs, lr=torch.tensor(0.25, dtype=torch.float64), **common)
    for _ in range(10):
        set_grads(ours, theirs)
        first.step()
        second.step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_never_touches_gradients(make_weights, set_grads):
    weights = make_weights((20, 20), (7,))
    optimizer = SO(weights, density_ratio=0.05, weight_decay=0.5, maximize=True)
    set_grads(weights)
    grads = [weight.grad for weight in weights]
    copies = [grad.clone() for grad in grads]
    optimizer.step()
    assert all(weight.grad is grad for weight, grad in zip(weights, grads, strict=True))
    torch.testing.assert_close(grads, copies, rtol=0, atol=0)


def test_maximize_climbs(make_weights, set_grads):
    up, down = make_weights((20, 20), (3,)), make_weights((20, 20), (3,))
    with torch.no_grad():
        for a, b in zip(up, down, strict=True):
            b.copy_(a)
    climber, faller = SO(up, density_ratio=0.1, maximize=True), SO(down, density_ratio=0.1)
    for _ in range(5):
        set_grads(up, down)
        for weight in down:
            weight.grad = -weight.grad
        climber.step()
        faller.step()
    torch.testing.assert_close(up, down, rtol=0, atol=0)


def test_gradient_scaler_skips_and_unscales(make_weights):
    (weight,) = make_weights((20, 20), dtype=torch.float32)
    plain = weight.detach().clone().requires_grad_()
    optimizer, unscaled = SO([weight], density_ratio=0.05), SO([plain], density_ratio=0.05)
    scaler = torch.amp.GradScaler(weight.device.type, init_scale=1024.0)
    for step in range(6):
        optimizer.zero_grad()
        scaler.scale(weight.square().sum()).backward()
        if step == 2:
            weight.grad[0, 0] = float("inf")
        else:
            unscaled.zero_grad()
            plain.square().sum().backward()
            unscaled.step()
        scaler.step(optimizer)
        scaler.update()
    torch.testing.assert_close(weight, plain, rtol=0, atol=0)
    assert optimizer.state[weight]["step"] == 5


def test_clipping_and_accumulation(model, loss_of):
    twice = copy.deepcopy(model)
    once, accumulated = (SO(m.parameters(), lr=0.02, density_ratio=0.1) for m in (model, twice))
    for _ in range(5):
        once.zero_grad()
        loss_of(model).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        once.step()
        accumulated.zero_grad(set_to_none=False)
        for _ in range(2):
            (loss_of(twice) / 2).backward()
        nn.utils.clip_grad_norm_(twice.parameters(), 0.1)
        accumulated.step()
    torch.testing.assert_close(model.state_dict(), twice.state_dict(), rtol=1e-4, atol=1e-5)


def test_add_param_group_midway(make_weights, set_grads):
    weights = make_weights((20, 20), (10, 30), (5,))
    optimizer = SO(weights[:1], density_ratio=0.05)
    set_grads(weights)
    optimizer.step()
    optimizer.add_param_group({"params": weights[1:], "density_ratio": 0.5, "lr": 0.5})
    optimizer.step()
    assert [optimizer.state[w]["step"].item() for w in weights] == [2, 1, 1]
    assert len(optimizer.state[weights[1]]["support"]) == 150
    assert optimizer.param_groups[1]["T"] == 10


@pytest.mark.parametrize("what", ["weight", "grad", "both"])
@pytest.mark.parametrize("shape", [(6, 9), (2, 3, 4), (2, 3, 4, 5)])
def test_strides_do_not_matter(make_weights, rng, shape, what):
    def shuffled(tensor):
        return tensor.mT.contiguous().mT

    (weight,) = make_weights(shape)
    start = weight.detach()
    strided = (shuffled(start) if what != "grad" else start.clone()).requires_grad_()
    settings = {"density_ratio": 0.1, "dense": False, "T": 2, "weight_decay": 0.1}
    optimizers = SO([weight], **settings), SO([strided], **settings)
    for _ in range(8):
        grad = torch.randn(shape, generator=rng, dtype=torch.float64).to(start.device)
        weight.grad = grad
        strided.grad = shuffled(grad) if what != "weight" else grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    assert strided.is_contiguous() == (what == "grad")
    torch.testing.assert_close(weight, strided, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (1,), (5,), (1, 1), (4, 3), (2, 3, 4), (2, 2, 2, 2), (0, 3)])
@pytest.mark.parametrize("dense", [None, False, True])
def test_every_shape_and_dtype_steps(make_weights, set_grads, shape, dtype, dense):
    weights = make_weights(shape, dtype=dtype)
    optimizer = SO(weights, lr=0.5, density_ratio=0.3, dense=dense)
    before = weights[0].detach().clone()
    for _ in range(3):
        set_grads(weights)
        optimizer.step()
    assert weights[0].isfinite().all()
    assert weights[0].numel() == 0 or not torch.equal(before, weights[0].detach())


def test_profiler_hooks_and_repr(make_weights, set_grads):
    weights = make_weights((4, 4))
    optimizer = SO(weights)
    calls = []
    optimizer.register_step_post_hook(lambda *_: calls.append(1))
    set_grads(weights)
    optimizer.step()
    assert calls == [1]
    assert "density_ratio: 0.0005" in repr(optimizer)


def test_a_step_without_any_gradient_does_nothing(make_weights):
    optimizer = SO(make_weights((4, 4)))
    optimizer.step()
    assert not optimizer.state
