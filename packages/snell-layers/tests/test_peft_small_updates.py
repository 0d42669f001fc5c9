"""Updates near 1e-6 beside bf16 and quantised weights: none is lost, none is merged where it would.

All weights of the bases are 1, and inputs come in pairs that cancel: the frozen part of the output
is exactly zero, and what is left is the update. Added to a weight of 1 in bf16 it would be gone.
"""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

pytest.importorskip("peft")

from peft import PeftModel, get_peft_model

from snell_layers.factors import SnellFactors
from snell_layers.peft import SnellAdapter, SnellConfig


class Int8Linear(nn.Linear):
    """A layer as users write them: an int8 weight, one scale a row, a forward of its own."""

    def __init__(self, linear):
        super().__init__(linear.in_features, linear.out_features)
        scale = linear.weight.detach().abs().amax(1, keepdim=True) / 127
        rounded = (linear.weight.detach() / scale).round().to(torch.int8)
        self.weight = nn.Parameter(rounded, requires_grad=False)
        self.register_buffer("scale", scale)
        self.bias = linear.bias

    def forward(self, x):
        return F.linear(x, self.weight.to(x.dtype) * self.scale.to(x.dtype), self.bias)


def ones(module):
    for parameter in module.parameters():
        nn.init.ones_(parameter)
    if module.bias is not None:
        nn.init.zeros_(module.bias)
    return module


def torchao_linear():
    quantization = pytest.importorskip("torchao.quantization")
    model = nn.Sequential(ones(nn.Linear(64, 32)))
    quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
    return model[0]


def bitsandbytes_linear():
    bitsandbytes = pytest.importorskip("bitsandbytes")
    linear = bitsandbytes.nn.Linear4bit(64, 32, compute_dtype=torch.float32, quant_type="nf4")
    linear.load_state_dict(ones(nn.Linear(64, 32)).state_dict())
    return linear.to("cpu")  # quantises


def conv1d():
    return pytest.importorskip("transformers.pytorch_utils").Conv1D(32, 64)


BASES = {
    "bf16 linear": lambda: ones(nn.Linear(64, 32)).bfloat16(),
    "bf16 Conv1D": lambda: ones(conv1d()).bfloat16(),
    "bf16 1x1": lambda: ones(nn.Conv2d(64, 32, 1)).bfloat16(),
    "bf16 patches": lambda: ones(nn.Conv2d(16, 32, 2, 2)).bfloat16(),
    "int8 of a user": lambda: Int8Linear(ones(nn.Linear(64, 32))),
    "int8 of torchao": torchao_linear,
    "nf4 of bitsandbytes": bitsandbytes_linear,
}
QUANTISED = [name for name in BASES if not name.startswith("bf16")]


def adapted(name):
    config = SnellConfig(r=4, sparsity=0.5, target_modules=["0"], seed=1)
    tuned = get_peft_model(nn.Sequential(BASES[name]()), config)
    (factors,) = (m for m in tuned.modules() if isinstance(m, SnellFactors))
    with torch.no_grad():  # the largest entry of the update is 1e-6
        size = factors.delta().abs().max().sqrt()
        for factor in (factors.inner, factors.outer):
            factor.mul_(1e-3 / size)
    assert factors.delta().abs().max() == pytest.approx(1e-6, rel=1e-3)
    return tuned, factors


def cancelling(name, rng):
    """Pairs of equal size and other sign along the inputs, or along a row of a patch."""
    half = torch.randn(5, 32, generator=rng)
    if "patches" in name:
        half = torch.randn(5, 16, 4, 2, 1, generator=rng)
        x = torch.stack([half, -half], -1).view(5, 16, 4, 4)
    else:
        x = torch.stack([half, -half], -1).view(5, 64)
        x = x[..., None, None] if "1x1" in name else x
    return x.bfloat16() if "bf16" in name else x


@pytest.mark.parametrize("name", BASES)
def test_training_sees_an_update_of_1e_minus_6(name, rng):
    tuned, factors = adapted(name)
    x = cancelling(name, rng)
    with tuned.disable_adapter():
        frozen = tuned(x)
    y = tuned.train()(x)
    delta = factors.delta()
    if x.dim() == 4:
        side = int((64 / x.shape[1]) ** 0.5)
        patches = F.unfold(x.float(), side, stride=side)
        branch = (patches.mT @ delta.T).mT.view(y.shape)
    else:
        branch = x.float() @ delta.T
    size = branch.abs().max().item()
    assert frozen.abs().max() < size < 1e-4, "the frozen part cancels, up to rounding"
    torch.testing.assert_close((y - frozen).float(), branch, rtol=0.02, atol=size * 0.02)
    y.float().sum().backward()
    assert factors.inner.grad.abs().max() > 0
    assert factors.inner.dtype == torch.float32


@pytest.mark.parametrize("name", QUANTISED)
def test_a_quantised_weight_is_never_merged(name, rng):
    tuned, _ = adapted(name)
    x = cancelling(name, rng)
    expected = tuned(x)
    for merge in (tuned.merge_adapter, tuned.merge_and_unload):
        with pytest.raises(ValueError, match=r"quantised weight .* cannot hold the update: keep"):
            merge()
    assert torch.equal(tuned(x), expected), "and the model is as it was"


@pytest.mark.parametrize("name", QUANTISED)
def test_an_adapter_of_a_quantised_base_is_saved_and_reloaded(name, rng, tmp_path):
    tuned, _ = adapted(name)
    x = cancelling(name, rng)
    tuned.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(nn.Sequential(BASES[name]()), tmp_path)
    assert torch.equal(loaded(x), tuned(x))
    plain = loaded.unload()
    assert not any(isinstance(module, SnellAdapter) for module in plain.modules())


def test_merging_into_bf16_rounds_once_from_float32():
    """The sum is made in float32, so what bf16 can hold of an update of 0.01 survives."""
    base = nn.Linear(64, 32).bfloat16()
    weight = base.weight.detach().clone()
    tuned = get_peft_model(
        nn.Sequential(base), SnellConfig(target_modules=["0"], kernel="linear", sparsity=0, r=4)
    )
    layer = next(m for m in tuned.modules() if isinstance(m, SnellAdapter))
    exact = weight.float() + layer.get_delta_weight("default")
    tuned.merge_adapter()
    assert torch.equal(layer.weight, exact.bfloat16())
    assert not torch.equal(layer.weight, weight)
