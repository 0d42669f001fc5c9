"""On a GPU the sampled product is Triton's; here its interpreter runs the same path."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from so_optim import SO

pytest.importorskip("triton")


class Model(nn.Module):
    """Every way the kernel's input is kept: LayerNorm, GELU, attention's output, columns."""

    def __init__(self):
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(24), nn.MultiheadAttention(24, 3, batch_first=True)
        self.mlp = nn.Sequential(nn.LayerNorm(24), nn.Linear(24, 40), nn.GELU(), nn.Linear(40, 24))
        self.head = nn.Linear(24, 3)

    def forward(self, x):
        normal = self.norm(x)
        x = x + self.attention(normal, normal, normal, need_weights=False)[0]
        return self.head(x + self.mlp(x))


def leaf_gradients():
    """Gradients of all leaves on a fixed problem."""
    generator = torch.Generator().manual_seed(0)
    model = Model()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) / 5)
    optimizer = SO(model.parameters(), density_ratio=0.01)
    optimizer.sample_gradients(model)
    model(torch.randn(3, 7, 24, generator=generator)).square().sum().backward()
    return {
        name: p.grad for name, p in model.named_parameters() if name.endswith("weight_at_support")
    }


def test_the_kernel_gives_the_gradients_of_its_twin(tmp_path):
    path = tmp_path / "grads.pt"
    environment = {**os.environ, "TRITON_INTERPRET": "1", "GRADS": str(path)}
    subprocess.run([sys.executable, "-W", "ignore", __file__], env=environment, check=True)
    found = torch.load(path, weights_only=True)
    expected = leaf_gradients()
    assert found.keys() == expected.keys()
    assert len(found) == 5
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


if __name__ == "__main__":
    from so_optim.kernels import runs_on

    if not runs_on(torch.device("cpu")):
        raise SystemExit("the interpreter is off")
    torch.save(leaf_gradients(), os.environ["GRADS"])
