"""The adapter of convolutions on patches that do not overlap, and the refusal of all others."""

import copy

import pytest
import torch
from torch import nn

pytest.importorskip("peft")

from peft import get_peft_model

from snell_layers.peft import SnellConfig
from snell_layers.peft.convolution import SnellConv2dAdapter


def adapted(convolution, **options):
    config = SnellConfig(
        **{"target_modules": ["0"], "sparsity": 0.5, "sparsifier": "hard"} | options
    )
    return get_peft_model(nn.Sequential(convolution), config)


def layer_of(tuned):
    layer = tuned.base_model.model[0]
    assert isinstance(layer, SnellConv2dAdapter)
    return layer


SHAPES = {
    "1x1": {"kernel_size": 1},
    "1x1 at stride 2": {"kernel_size": 1, "stride": 2},
    "1x1 at stride (3, 2)": {"kernel_size": 1, "stride": (3, 2)},
    "1x1 without bias": {"kernel_size": 1, "bias": False},
    "patches": {"kernel_size": 4, "stride": 4},
    "oblong patches": {"kernel_size": (2, 3), "stride": (2, 3)},
    "valid padding": {"kernel_size": 2, "stride": 2, "padding": "valid"},
}


@pytest.mark.parametrize("size", [(12, 12), (13, 14), None])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_adapter_is_the_convolution_with_the_summed_weight(rng, shape, size):
    """Also where the image does not divide into patches, and without a batch."""
    convolution = nn.Conv2d(3, 8, **SHAPES[shape]).double()
    tuned = adapted(convolution)
    image = (3, 12, 12) if size is None else (2, 3, *size)
    x = torch.randn(*image, generator=rng, dtype=torch.float64, requires_grad=True)
    delta = layer_of(tuned).get_delta_weight("default")
    assert delta.shape == convolution.weight.shape
    assert delta.count_nonzero() == delta.numel() - -(-delta.numel() // 2)
    convolved = torch.func.functional_call(
        convolution, {"weight": convolution.weight + delta}, (x,)
    )
    y = tuned(x)
    torch.testing.assert_close(y, convolved, rtol=1e-11, atol=1e-12)
    pull = torch.randn(y.shape, generator=rng, dtype=torch.float64)
    grads = (torch.autograd.grad((out * pull).sum(), x)[0] for out in (y, convolved))
    torch.testing.assert_close(*grads, rtol=1e-11, atol=1e-12)


def test_the_gradient_of_the_factors_is_the_convolutions(rng):
    """Against the same numbers in a linear layer on patches cut out by `nn.Unfold`."""
    convolution = nn.Conv2d(3, 8, 2, 2).double()
    linear = nn.Linear(12, 8).double()
    linear.load_state_dict({"weight": convolution.weight.flatten(1), "bias": convolution.bias})
    x = torch.randn(2, 3, 8, 8, generator=rng, dtype=torch.float64)
    one, two = adapted(convolution), adapted(linear)
    one(x).square().sum().backward()
    two(nn.functional.unfold(x, 2, stride=2).mT).square().sum().backward()
    pairs = zip(one.named_parameters(), two.named_parameters(), strict=True)
    grads = [(a.grad, b.grad) for (name, a), (_, b) in pairs if "snell" in name]
    assert len(grads) == 2
    for a, b in grads:
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_merging_keeps_the_layout_and_unmerging_the_bits(rng):
    convolution = nn.Conv2d(3, 8, 2, 2).to(memory_format=torch.channels_last)
    before = copy.deepcopy(convolution.weight)
    tuned = adapted(convolution)
    layer = layer_of(tuned)
    layer.merge()
    torch.testing.assert_close(
        layer.weight, before + layer.get_delta_weight("default"), rtol=0, atol=0
    )
    layer.unmerge()
    assert torch.equal(layer.weight, before)


REFUSED = {
    "depthwise": (nn.Conv2d(4, 4, 7, padding=3, groups=4), "groups=4"),
    "overlapping": (
        nn.Conv2d(4, 4, 3, stride=2),
        r"kernel \(3, 3\) at stride \(2, 2\), so patches",
    ),
    "gaps": (nn.Conv2d(4, 4, 2, stride=3), r"kernel \(2, 2\) at stride \(3, 3\)"),
    "padded": (nn.Conv2d(4, 4, 2, stride=2, padding=1), r"padding=\(1, 1\)"),
    "same": (nn.Conv2d(4, 4, 3, padding="same"), "padding=same"),
    "dilated": (nn.Conv2d(4, 4, 2, stride=2, dilation=2), r"dilation=\(2, 2\)"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_other_convolutions_are_refused(kind):
    convolution, message = REFUSED[kind]
    with pytest.raises(
        ValueError,
        match=rf"module '0' is a Conv2d, which has {message}.*target nn\.Linear.*exclude",
    ):
        adapted(convolution)
