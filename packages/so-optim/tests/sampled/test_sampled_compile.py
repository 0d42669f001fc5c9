"""`torch.compile(fullgraph=True)`: the same gradients, and no recompilation for another support."""

import copy

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from so_optim import SO

WIDTH, HEADS = 16, 2
MEMORY = ("free", "low", "minimal")


class Net(nn.Module):
    """Every layer that takes part, one after another."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, WIDTH, padding_idx=1)
        self.norm = nn.LayerNorm(WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, bias=False, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 24), nn.GELU(), nn.Linear(24, WIDTH))
        self.mix = nn.Parameter(torch.empty(WIDTH, WIDTH))
        self.decoder = nn.Linear(WIDTH, 11)
        self.decoder.weight = self.embedding.weight

    def forward(self, tokens):
        x = self.embedding(tokens)
        h = self.norm(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        return self.decoder((x + self.mlp(self.norm(x))) @ self.mix)


def vit():
    timm = pytest.importorskip("timm.models.vision_transformer")
    return timm.VisionTransformer(8, 4, 3, 5, embed_dim=WIDTH, depth=2, num_heads=HEADS)


def clip():
    open_clip = pytest.importorskip("open_clip.transformer")
    return open_clip.ResidualAttentionBlock(WIDTH, HEADS, act_layer=open_clip.QuickGELU)


MODELS = {
    "net": (Net, lambda x: (x[:60].view(3, 20) * 9).abs().long() % 11),
    "vit": (vit, lambda x: x.view(2, 3, 8, 8)),
    "clip": (clip, lambda x: x.view(3, 8, 16)),
}


@pytest.fixture(autouse=True)
def fresh():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def check(twins, backend, x, tolerance):
    run = torch.compile(twins.sampled, fullgraph=True, backend=backend)
    for model in (twins.dense, run):
        out = model(x)
        out.backward(torch.linspace(-1, 1, out.numel()).view_as(out).to(out))
    twins.check(tolerance)


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("name", MODELS)
def test_gradients_through_aot_autograd(twins_of, fill, draw, name, memory):
    build, shaped = MODELS[name]
    twins = twins_of(fill(build()), 0.02, memory)
    check(twins, "aot_eager", shaped(draw(384)), 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_gradients_through_inductor(twins_of, fill, draw, name):
    build, shaped = MODELS[name]
    twins = twins_of(fill(build()), 0.02)
    check(twins, "inductor", shaped(draw(384)), 1e-11)


def test_redrawn_supports_do_not_compile_again(fill, draw):
    """T is 1: every step has another support, the graph reads it from the same place."""
    dense = fill(Net())
    sampled = copy.deepcopy(dense)
    optimizers = [
        SO(each.parameters(), lr=1e-3, density_ratio=0.05, T=1) for each in (dense, sampled)
    ]
    optimizers[1].sample_gradients(sampled)
    counter = CompileCounterWithBackend("aot_eager")
    run = torch.compile(sampled, fullgraph=True, backend=counter)
    for _ in range(6):
        tokens = MODELS["net"][1](draw(384))
        for model, optimizer in ((dense, optimizers[0]), (run, optimizers[1])):
            optimizer.zero_grad()
            model(tokens).logsumexp(-1).mean().backward()
            optimizer.step()
    assert counter.frame_count == 1
    weights = sampled.state_dict(), dense.state_dict()
    torch.testing.assert_close(*map(dict, weights), rtol=0, atol=1e-12)
