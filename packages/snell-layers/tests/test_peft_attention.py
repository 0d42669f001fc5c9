"""The adapter of `nn.MultiheadAttention`: every argument, every projection, torch's fast path."""

import copy

import pytest
import torch
from torch import nn

pytest.importorskip("peft")

from peft import get_peft_model

from snell_layers.factors import SnellFactors
from snell_layers.peft import SnellConfig
from snell_layers.peft.attention import SnellAttentionAdapter


class Attention(nn.Module):
    """A parent, as PEFT replaces children only."""

    def __init__(self, **options):
        super().__init__()
        self.attn = nn.MultiheadAttention(12, 3, **options)
        nn.init.normal_(self.attn.in_proj_bias)
        nn.init.normal_(self.attn.out_proj.bias)

    def forward(self, *args, **kwargs):
        return self.attn(*args, **kwargs)


def adapted(model, **options):
    tuned = get_peft_model(
        copy.deepcopy(model), SnellConfig(target_modules=["attn"], sparsity=0, **options)
    )
    for factors in tuned.modules():
        if isinstance(factors, SnellFactors):
            with torch.no_grad():  # updates of about 0.1: what they change is seen
                factors.outer.mul_(10)
    return tuned


def merged(tuned):
    return copy.deepcopy(tuned).merge_and_unload()


def random(rng, *shape):
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


def same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


CALLS = [
    {"need_weights": weights, "average_attn_weights": average}
    for weights, average in ((False, True), (True, True), (True, False))
]


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("options", CALLS)
@pytest.mark.parametrize("inputs", ["self", "cross", "three", "unbatched"])
def test_the_adapted_attention_is_the_one_with_merged_weights(rng, batch_first, options, inputs):
    tuned = adapted(Attention(batch_first=batch_first).double())
    x, y, z = random(rng, 4, 5, 12), random(rng, 4, 5, 12), random(rng, 4, 5, 12)
    x = x[0] if inputs == "unbatched" else x
    call = {"self": (x, x, x), "cross": (x, y, y), "three": (x, y, z)}.get(inputs, (x, x, x))
    plain = merged(tuned)
    same(tuned(*call, **options), plain(*call, **options))
    with tuned.disable_adapter():
        changed = tuned(*call, **options)[0] - plain(*call, **options)[0]
    assert changed.abs().max() > 1e-3


def masks(rng, batch, heads, queries, keys):
    causal = torch.ones(queries, keys, dtype=torch.bool).triu(1)
    padding = torch.zeros(batch, keys, dtype=torch.bool)
    padding[1, -2:] = True
    for_heads = random(rng, batch * heads, queries, keys)
    return {
        "boolean": {"attn_mask": causal},
        "added": {"attn_mask": random(rng, queries, keys)},
        "per head": {"attn_mask": for_heads},
        "causal hint": {"attn_mask": causal, "is_causal": True},
        "padding": {"key_padding_mask": padding},
        "both": {"attn_mask": causal, "key_padding_mask": padding},
        "both added": {"attn_mask": for_heads, "key_padding_mask": random(rng, batch, keys)},
    }


@pytest.mark.parametrize("kind", masks(torch.Generator(), 2, 1, 3, 3))
@pytest.mark.parametrize("need_weights", [True, False])
def test_masks_are_honoured(rng, kind, need_weights):
    tuned = adapted(Attention(batch_first=True).double())
    x = random(rng, 4, 5, 12)
    options = {**masks(rng, 4, 3, 5, 5)[kind], "need_weights": need_weights}
    same(tuned(x, x, x, **options), merged(tuned)(x, x, x, **options))


def test_dropout_of_attention_weights_works_in_training_alone(rng):
    tuned = adapted(Attention(batch_first=True, dropout=0.5).double())
    x = random(rng, 4, 5, 12)
    for need_weights in (True, False):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            one, two = (tuned.train()(x, x, x, need_weights=need_weights)[0] for _ in range(2))
        assert not torch.equal(one, two)
        one, two = (tuned.eval()(x, x, x, need_weights=need_weights)[0] for _ in range(2))
        assert torch.equal(one, two)


def test_drop_path_drops_samples_whatever_the_layout(rng):
    """With `batch_first=False` the first dimension is time, which must not be dropped."""
    x = random(rng, 5, 40, 12)
    tuned = adapted(Attention(batch_first=False).double(), drop_path=0.9).train()
    with tuned.disable_adapter(), torch.no_grad():
        plain = tuned(x, x, x)[0]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        same_as_plain = (tuned(x, x, x)[0] - plain).abs().amax((0, 2)) < 1e-12
    assert same_as_plain.any()
    assert not same_as_plain.all()


def test_every_projection_gets_a_gradient_and_its_own_rule(rng):
    config = SnellConfig(
        target_modules=["attn"], sparsity_pattern={"out_proj": 0.5, "in_proj": 0.75}, sparsity=0
    )
    tuned = get_peft_model(Attention(batch_first=True), config)
    x = random(rng, 2, 5, 12).float()
    tuned(x, x, x, need_weights=False)[0].square().sum().backward()
    factors = tuned.base_model.model.attn.snell_factors["default"]
    assert {name: f.rule.sparsity for name, f in factors.items()} == {
        "in_proj": 0.75,
        "out_proj": 0.5,
    }
    assert {name: f.pieces for name, f in factors.items()} == {"in_proj": 3, "out_proj": 1}
    for update in factors.values():
        for piece in [*update.inner.grad, *update.outer.grad]:
            assert piece.abs().max() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kdim": 8, "vdim": 8}, r"'attn' is a MultiheadAttention, which has kdim=8 and vdim=8"),
        ({"add_bias_kv": True}, "adds keys and values of its own"),
        ({"add_zero_attn": True}, "adds keys and values of its own"),
    ],
)
def test_other_kinds_of_attention_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        adapted(Attention(**options))


def test_calls_that_would_compute_something_else_are_refused(rng):
    tuned = adapted(Attention(batch_first=True).double())
    x = random(rng, 4, 5, 12)
    with pytest.raises(ValueError, match="is_causal is True without attn_mask"):
        tuned(x, x, x, is_causal=True)
    tuned.base_model.model.attn.base_layer.register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match=r"'attn': its nn\.MultiheadAttention has hooks"):
        tuned(x, x, x)


TARGETS = [["self_attn"], ["linear1", "linear2"], ["self_attn", "linear1"]]


@pytest.mark.parametrize("targets", TARGETS)
def test_an_encoder_layer_of_torch_uses_the_adapter_in_evaluation_too(rng, targets):
    """Its fast path reads the weights itself and would leave the adapter out, silently."""
    layer = nn.Sequential(nn.TransformerEncoderLayer(12, 2, 24, dropout=0, batch_first=True))
    tuned = get_peft_model(layer, SnellConfig(target_modules=targets, sparsity=0))
    x = torch.randn(4, 5, 12, generator=rng)
    expected = tuned.train()(x)
    with torch.no_grad():
        torch.testing.assert_close(tuned.eval()(x), expected)
        with tuned.disable_adapter():
            assert not torch.allclose(tuned(x), expected, atol=1e-4)
        plain = tuned.merge_and_unload()
        torch.testing.assert_close(plain(x), expected, rtol=1e-4, atol=1e-5)
    assert all(not m._forward_pre_hooks for m in plain.modules())


def test_attributes_that_others_read_are_the_attentions():
    tuned = adapted(Attention(batch_first=True))
    attention = tuned.base_model.model.attn
    assert isinstance(attention, SnellAttentionAdapter)
    base = attention.base_layer
    for name in ("embed_dim", "num_heads", "batch_first", "in_proj_weight", "out_proj"):
        assert getattr(attention, name) is getattr(base, name)
    with pytest.raises(AttributeError, match="no attribute 'heads'"):
        _ = attention.heads


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_close_to_double(rng, dtype, need_weights):
    """The updates are operands of their own there, because merging would lose them."""
    tuned = adapted(Attention(batch_first=True))
    x = random(rng, 4, 5, 12)
    wide = copy.deepcopy(tuned).double()
    expected = wide(x, x, x, need_weights=need_weights)[0]
    close = {"rtol": 0.05, "atol": 0.05}
    narrow = x.to(dtype)
    with torch.autocast("cpu", dtype):
        y = tuned(x.float(), x.float(), x.float(), need_weights=need_weights)[0]
    torch.testing.assert_close(y.double(), expected, **close)
    y = tuned.to(dtype)(narrow, narrow, narrow, need_weights=need_weights)[0]
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), expected, **close)
