from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fewshot_bench.speed.strong_lora import StrongLoraLinear, add_strong_lora
from fewshot_bench.speed.workload import make_batch, make_workload

NAMES = ("tiny-vit", "tiny-clip", "tiny-bert")


class PlainLora(nn.Module):
    """The textbook form, with autograd's own gradients."""

    def __init__(self, strong: StrongLoraLinear) -> None:
        super().__init__()
        self.weight, self.bias, self.scale = strong.weight, strong.bias, strong.scale
        self.a = nn.Parameter(strong.lora_a.detach().clone())
        self.b = nn.Parameter(strong.lora_b.detach().clone())

    def forward(self, x):
        return F.linear(x, self.weight, self.bias) + self.scale * (x @ self.a.mT @ self.b.mT)


def strong_model(name):
    workload = make_workload(name, depth=2, split=True)
    workload.model.double()
    add_strong_lora(workload.model, workload.blocks(), workload.linears())
    draw = torch.Generator().manual_seed(1)
    for module in workload.model.modules():
        if isinstance(module, StrongLoraLinear):  # zero at first, which would hide half of it
            module.lora_b.data.normal_(std=0.1, generator=draw)
    return workload


@pytest.mark.parametrize("name", NAMES)
def test_gradients_equal_those_of_plain_lora(name):
    workload = strong_model(name)
    batch = make_batch(workload, 3)
    batch = {k: v.double() if v.is_floating_point() else v for k, v in batch.items()}
    layers = {n: m for n, m in workload.model.named_modules() if isinstance(m, StrongLoraLinear)}
    loss = F.cross_entropy(workload.model(batch), batch["label"])
    loss.backward()
    twins = {n: PlainLora(layer) for n, layer in layers.items()}
    for n, twin in twins.items():
        workload.model.set_submodule(n, twin)
    other = F.cross_entropy(workload.model(batch), batch["label"])
    other.backward()
    assert len(layers) >= 8
    assert loss.item() == pytest.approx(other.item(), rel=1e-13)
    for n, layer in layers.items():
        for mine, theirs in ((layer.lora_a, twins[n].a), (layer.lora_b, twins[n].b)):
            assert mine.grad is not None
            scale = theirs.grad.abs().max()
            assert scale > 0, n
            assert (mine.grad - theirs.grad).abs().max() <= 1e-12 * scale, n


def test_the_gradient_of_the_input_is_right():
    layer = StrongLoraLinear(nn.Linear(6, 5).double(), r=2)
    layer.lora_b.data.normal_()
    x = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,))


def test_only_the_factors_are_trained():
    workload = strong_model("tiny-vit")
    trained = [n for n, p in workload.model.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 4 * 2
    assert all(n.endswith(("lora_a", "lora_b")) for n in trained)
