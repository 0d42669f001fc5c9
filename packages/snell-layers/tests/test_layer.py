"""`SnellLinear`: start, merge, state, and errors that can be acted on."""

import copy
import io
import math

import pytest
import torch
from torch import nn

from snell_layers import SnellLinear


@pytest.fixture
def layer(device):
    return SnellLinear(nn.Linear(24, 20), 8, 0.9).to(device)


@pytest.fixture
def x(device, rng):
    return torch.randn(6, 24, generator=rng).to(device)


def nudge(layer, rng, size=0.1):
    """Move the factors as training would."""
    with torch.no_grad():
        for factor in layer.factors.parameters():
            factor.add_(size * torch.randn(factor.shape, generator=rng).to(factor.device))


def test_the_released_start(device):
    factors = SnellLinear(nn.Linear(768, 96), 8, 0.0).to(device).factors
    for factor, rows in ((factors.inner, 768), (factors.outer, 96)):
        bound = 1 / math.sqrt(rows * 4)
        assert factor.abs().max() <= bound
        assert factor.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
        assert factor.mean().abs() < 0.1 * bound


@pytest.mark.parametrize("kernel", ["piecewise_linear", "linear", "sigmoid"])
def test_the_zero_start_is_zero_and_trains(device, x, kernel):
    layer = SnellLinear(nn.Linear(24, 20), 8, 0, kernel=kernel, init="zero_update").to(device)
    assert torch.equal(layer(x), layer.base(x))
    layer(x).square().sum().backward()
    assert layer.factors.outer.grad.abs().max() > 0
    with torch.no_grad():
        layer.factors.outer -= layer.factors.outer.grad
    assert not torch.equal(layer(x), layer.base(x))


def test_the_start_depends_on_the_seed_alone():
    bases = [nn.Linear(24, 20) for _ in range(3)]
    before = torch.get_rng_state()
    a, b, c = (SnellLinear(base, seed=s) for base, s in zip(bases, (5, 5, 6), strict=True))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(a.factors.inner, b.factors.inner)
    assert not torch.equal(a.factors.inner, c.factors.inner)


def test_merged_equals_unmerged_and_unmerge_is_exact(layer, x, rng):
    nudge(layer, rng)
    weight = layer.base.weight.clone()
    y = layer(x)
    assert not torch.allclose(y, layer.base(x))
    layer.merge()
    layer.merge()  # a second call must not add the update twice
    assert layer.merged
    torch.testing.assert_close(layer(x), y, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(layer.base(x), y, rtol=1e-6, atol=1e-6)
    layer.unmerge()
    layer.unmerge()
    assert not layer.merged
    assert torch.equal(layer.base.weight, weight)
    assert torch.equal(layer(x), y)


def test_a_half_precision_base_is_merged_in_float32_and_restored_exactly(device, rng):
    layer = SnellLinear(nn.Linear(24, 20).to(torch.bfloat16), 8, 0.5).to(device)
    nudge(layer, rng)
    weight, delta = layer.base.weight.clone(), layer.delta_weight()
    layer.merge()
    assert layer.base.weight.dtype == torch.bfloat16
    assert torch.equal(layer.base.weight, (weight.float() + delta).to(torch.bfloat16))
    layer.unmerge()
    assert torch.equal(layer.base.weight, weight)


def test_state_of_a_trained_layer_reloads_bit_for_bit(layer, x, rng, device):
    nudge(layer, rng)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other = SnellLinear(nn.Linear(24, 20), 8, 0.9, seed=9).to(device)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(x), layer(x))
    assert sorted(layer.state_dict()) == [
        "base.bias",
        "base.weight",
        "factors.inner",
        "factors.kept",
        "factors.outer",
        "factors.threshold",
    ]


@pytest.mark.parametrize("kernel", ["piecewise_linear", "sigmoid", "rbf", "mixed"])
def test_trained_coefficients_are_one_vector_of_state(device, x, rng, kernel):
    options = {"kernel": kernel, "learn_coefficients": True, "pieces": 2}
    layer = SnellLinear(nn.Linear(24, 20), 8, 0.9, **options).to(device)
    start = layer.factors.rule.start
    assert layer.factors.coefficients.tolist() == pytest.approx(2 * start)
    held = SnellLinear(layer.base, 8, 0.9, **(options | {"learn_coefficients": False})).to(device)
    assert held.factors.coefficients is None
    torch.testing.assert_close(layer(x), held(x))
    nudge(layer, rng)
    other = SnellLinear(nn.Linear(24, 20), 8, 0.9, **options, seed=9).to(device)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), layer(x))
    layer.requires_grad_(False)
    before = layer.delta_weight()
    with torch.no_grad():
        layer.factors.coefficients.mul_(1.5)
    assert not torch.equal(layer.delta_weight(), before)
    assert layer.delta_weight().count_nonzero() == 48, "a stale threshold was used"


def test_the_saved_threshold_belongs_to_the_saved_factors(layer, x, rng):
    """Not to the forward before the last optimizer step."""
    layer(x)
    nudge(layer, rng)
    state = layer.state_dict()
    magnitudes = layer.factors.rule.matrix(state["factors.inner"], state["factors.outer"]).abs()
    assert (magnitudes > state["factors.threshold"]).sum() == 48


def test_a_frozen_layer_keeps_the_loaded_threshold_until_its_factors_change(layer, x, rng):
    state = layer.state_dict()
    layer.factors.requires_grad_(False)
    layer.load_state_dict(state | {"factors.threshold": torch.zeros(1)})
    assert layer.delta_weight().count_nonzero() == 480, "the stored threshold should rule"
    assert layer.factors.threshold == 0
    nudge(layer, rng)
    assert layer.delta_weight().count_nonzero() == 48, "an EMA copy must follow its factors"
    assert layer.factors.threshold > 0


def test_a_training_layer_finds_its_threshold_anew(layer, x, rng):
    layer.load_state_dict(layer.state_dict() | {"factors.threshold": torch.zeros(1)})
    layer(x)
    assert layer.delta_weight().count_nonzero() == 48
    first = layer.factors.threshold.clone()
    nudge(layer, rng)
    layer(x)
    assert layer.factors.threshold != first


def test_inference_mode(layer, x, rng):
    expected = layer(x).detach()
    with torch.inference_mode():
        assert torch.equal(layer(x), expected)
    nudge(layer, rng)
    layer.factors.requires_grad_(False)
    with torch.inference_mode():
        layer(x)
    assert layer.delta_weight().count_nonzero() == 48


def test_a_copy_is_independent(layer, x, rng):
    y = layer(x)
    twin = copy.deepcopy(layer)
    assert torch.equal(twin(x), y)
    nudge(twin, rng)
    assert torch.equal(layer(x), y)
    assert not torch.equal(twin(x), y)
    twin.factors.requires_grad_(False)
    assert copy.deepcopy(twin).delta_weight().count_nonzero() == 48


def test_a_fused_qkv_equals_three_layers(device, rng):
    base = nn.Linear(16, 48).to(device, torch.float64)
    fused = SnellLinear(base, 8, 0.75, pieces=3)
    deltas = fused.delta_weight().chunk(3)
    for piece, delta in enumerate(deltas):
        single = SnellLinear(nn.Linear(16, 16).to(device, torch.float64), 8, 0.75)
        single.factors.inner.data.copy_(fused.factors.inner[piece : piece + 1])
        single.factors.outer.data.copy_(fused.factors.outer[piece : piece + 1])
        assert torch.equal(single.delta_weight(), delta)
        assert delta.count_nonzero() == 64


def test_hooks_of_the_base_layer_run(layer, x):
    """A merged product would skip them; the update becomes a second operand instead."""
    y, seen = layer(x), []
    with layer.base.register_forward_hook(lambda *_: seen.append(1)):
        torch.testing.assert_close(layer(x), y)
    assert seen == [1]


def test_a_subclass_keeps_its_own_forward(device, x):
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    layer = SnellLinear(Doubled(24, 20), 8, 0.5).to(device)
    torch.testing.assert_close(layer(x), layer.base(x) + x @ layer.delta_weight().T)


def test_a_quantised_base_works_unmerged_and_refuses_to_merge(device, x):
    class Int8Linear(nn.Linear):
        def __init__(self):
            super().__init__(24, 20)
            self.scale = self.weight.detach().abs().max() / 127
            values = (self.weight.detach() / self.scale).round().to(torch.int8)
            self.weight = nn.Parameter(values, requires_grad=False)

        def forward(self, x):
            return nn.functional.linear(x, self.weight * self.scale.to(x.device), self.bias)

    layer = SnellLinear(Int8Linear(), 8, 0.5).to(device)
    torch.testing.assert_close(layer(x), layer.base(x) + x @ layer.delta_weight().T)
    layer(x).sum().backward()
    assert layer.factors.inner.grad.abs().max() > 0
    with pytest.raises(ValueError, match=r"quantised weight.*int8.*dequantise"):
        layer.merge()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"r": 1}, "r must be a whole number of at least 2, but is 1"),
        ({"r": 8.0}, "r must be a whole number of at least 2, but is 8.0"),
        ({"r": 7}, "r=7 cannot be cut into 2 equal chunks: use a multiple of 2"),
        ({"r": 6, "heads": 4}, "r=6 cannot be cut into 4 equal chunks"),
        ({"heads": 3}, "heads must be an even number of at least 2, but is 3"),
        ({"sparsity": 1.0}, "sparsity must be at least 0 .* below 1, but is 1.0"),
        ({"sparsity": -0.1}, "sparsity must be at least 0 .* below 1, but is -0.1"),
        ({"sparsity": float("nan")}, "sparsity must be at least 0"),
        ({"sparsity": 0.999}, "sparsity 0.999 leaves none of the 480 entries.*at most 0.997917"),
        ({"kernel": "linaer"}, "unknown kernel 'linaer': did you mean 'linear'"),
        ({"kernel": "rbff"}, "did you mean 'rbf'"),
        ({"kernel": "mixed", "heads": 3}, "heads must be an even number of at least 2"),
        (
            {"kernel": "linear", "learn_coefficients": True},
            "learn_coefficients is True, but kernel 'linear' has none",
        ),
        (
            {"kernel": "rbf", "init": "zero_update", "sparsity": 0},
            "'zero_update' does not exist for kernel 'rbf'.*use init 'released'",
        ),
        ({"sparsifier": "soft"}, "unknown sparsifier 'soft': known: released, paper, hard, none"),
        ({"sparsifier": "none"}, "'none' keeps every entry, but sparsity is 0.9: set sparsity=0"),
        ({"init": "zero"}, "unknown init 'zero'.*zero_update"),
        ({"init": "zero_update"}, "cannot train at sparsity 0.9.*Use sparsity=0"),
        ({"pieces": 3}, "20 rows cannot be cut into 3 equal pieces"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        SnellLinear(nn.Linear(24, 20), **arguments)


def test_other_layers_are_refused():
    with pytest.raises(ValueError, match=r"base must be an nn\.Linear, but is Conv2d"):
        SnellLinear(nn.Conv2d(3, 4, 1))


def test_a_state_of_another_shape_is_refused(layer):
    other = SnellLinear(nn.Linear(24, 20), 4, 0.9)
    with pytest.raises(RuntimeError, match=r"size mismatch for factors\.inner"):
        layer.load_state_dict(other.state_dict())
