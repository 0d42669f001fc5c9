"""A tiny transformer and its data, for the tests that leave one process."""

import torch
from torch import nn
from torch.nn import functional as F

from so_optim import SO

VOCABULARY, WIDTH, CLASSES = 40, 32, 5


class Block(nn.Module):
    """Attention and an MLP, each after its norm."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)
        self.fc1, self.act = nn.Linear(WIDTH, 4 * WIDTH), nn.GELU()
        self.fc2 = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4).unbind()
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.fc2(self.act(self.fc1(self.norm2(x))))


class Transformer(nn.Module):
    """Tokens to classes; has a buffer, as real models do."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.register_buffer("scale", torch.ones(WIDTH))
        self.blocks = nn.Sequential(Block(), Block())
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, tokens):
        return self.head(self.blocks(self.embed(tokens) * self.scale).mean(1))


def build(dtype=torch.float32):
    """The same model everywhere: matrices of the blocks and the head train, nothing else."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Transformer().to(dtype)
    model.requires_grad_(False)
    for weight in matrices(model):
        weight.requires_grad_(True)
    model.head.requires_grad_(True)
    return model


def matrices(model):
    return [p for name, p in model.named_parameters() if "blocks" in name and p.dim() == 2]


def optimizer_of(model, **settings):
    """SO on the matrices of the blocks, Adam on the head."""
    groups = [
        {"params": matrices(model)},
        {"params": list(model.head.parameters()), "dense": True},
    ]
    return SO(groups, **{"lr": 1e-2, "density_ratio": 0.01, "T": 3, **settings})


def batch(step, samples=8):
    """Tokens and labels of one step."""
    rng = torch.Generator().manual_seed(1000 + step)
    tokens = torch.randint(VOCABULARY, (samples, 6), generator=rng)
    return tokens, torch.randint(CLASSES, (samples,), generator=rng)


def loss_of(model, tokens, labels):
    return F.cross_entropy(model(tokens), labels)
