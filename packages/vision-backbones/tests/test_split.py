"""SplitAttention is torch's attention: outputs, gradients, masks, and the way back."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from vision_backbones.split import SplitAttention, join_split_keys

TOKENS, WIDTH, HEADS = 6, 24, 3
EXACT = {"rtol": 0, "atol": 1e-13}


def packed_attention(bias: bool = True, dtype: torch.dtype = torch.float64) -> nn.Module:
    attention = nn.MultiheadAttention(WIDTH, HEADS, bias=bias, batch_first=True, dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / WIDTH**0.5)
    return attention


def causal_mask() -> torch.Tensor:
    return torch.full((TOKENS, TOKENS), float("-inf"), dtype=torch.float64).triu(1)


def random_tokens(seed: int, tokens: int = TOKENS) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, tokens, WIDTH, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_outputs_and_gradients_are_equal(bias, masked, training):
    packed = packed_attention(bias).train(training)
    split = SplitAttention(packed).train(training)
    mask = causal_mask() if masked else None
    x, weight = random_tokens(1), random_tokens(2)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    output = split(ours, ours, ours, need_weights=False, attn_mask=mask)[0]
    expected = packed(theirs, theirs, theirs, need_weights=False, attn_mask=mask)[0]
    assert_close(output, expected, **EXACT)
    (output * weight).sum().backward()
    (expected * weight).sum().backward()
    assert_close(ours.grad, theirs.grad, **EXACT)
    gradients = join_split_keys({name: p.grad for name, p in split.named_parameters()})
    for name, parameter in packed.named_parameters():
        assert_close(gradients[name], parameter.grad, **EXACT)


def test_cross_attention_is_equal():
    packed = packed_attention()
    query, key, value = random_tokens(1), random_tokens(2, 4), random_tokens(3, 4)
    expected = packed(query, key, value, need_weights=False)[0]
    assert_close(SplitAttention(packed)(query, key, value)[0], expected, **EXACT)


def test_masked_tokens_have_no_influence():
    split = SplitAttention(packed_attention())
    x = random_tokens(1)
    changed = x.clone()
    changed[:, 3:] += 1
    mask = causal_mask()
    before, after = (split(t, t, t, attn_mask=mask)[0] for t in (x, changed))
    assert torch.equal(before[:, :3], after[:, :3])


def test_joined_names_load_into_the_packed_module_bit_for_bit():
    packed = packed_attention()
    joined = join_split_keys(SplitAttention(packed).state_dict())
    assert sorted(joined) == sorted(packed.state_dict())
    assert all(torch.equal(joined[name], t) for name, t in packed.state_dict().items())


def test_joining_leaves_other_names_alone():
    state = {"q_proj_norm.weight": torch.ones(1), "mlp.weight": torch.ones(1)}
    assert join_split_keys(state) == state


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype_and_trainability_are_kept(dtype):
    packed = packed_attention(dtype=dtype)
    packed.requires_grad_(False)
    parameters = list(SplitAttention(packed).parameters())
    assert {p.dtype for p in parameters} == {dtype}
    assert not any(p.requires_grad for p in parameters)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_first": False},
        {"dropout": 0.1},
        {"kdim": 8},
        {"add_bias_kv": True},
        {"add_zero_attn": True},
    ],
)
def test_features_that_are_not_there_are_refused(options):
    packed = nn.MultiheadAttention(WIDTH, HEADS, **{"batch_first": True} | options)
    with pytest.raises(ValueError, match="cannot be split"):
        SplitAttention(packed)


def test_attention_weights_are_refused():
    x = random_tokens(1)
    with pytest.raises(ValueError, match="need_weights"):
        SplitAttention(packed_attention())(x, x, x, need_weights=True)


def test_whole_clip_has_no_packed_attention_left_and_equal_gradients(load_random):
    packed, split = load_random("tiny-clip").double(), load_random("tiny-clip").double()
    split.split_attention()
    assert not any(isinstance(m, nn.MultiheadAttention) for m in split.modules())
    image = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    for backbone in (packed, split):
        backbone.train()({"image": image})[:, 0].sum().backward()
    gradients = {n: p.grad for n, p in split.model.named_parameters()}
    joined = join_split_keys(gradients)
    for name, parameter in packed.model.named_parameters():
        assert_close(joined[name], parameter.grad, rtol=1e-9, atol=1e-12)
