"""`nn.MultiheadAttention` in every way it is called."""

import pytest
import torch
from torch import nn

WIDTH, HEADS, LENGTH, SAMPLES = 8, 2, 5, 3
SAMPLED, FALLBACK = "sampled as Attention", "keeps a dense gradient for a moment"


def upper(fill):
    return torch.full((LENGTH, LENGTH), fill).triu(1)


CALLS = {
    "plain": ({}, SAMPLED),
    "bool mask": ({"attn_mask": upper(True)}, SAMPLED),
    "float mask": ({"attn_mask": upper(-1.5).double()}, SAMPLED),
    "mask of each head": ({"attn_mask": upper(True).expand(SAMPLES * HEADS, -1, -1)}, SAMPLED),
    "causal": ({"attn_mask": upper(True), "is_causal": True}, SAMPLED),
    "weights": ({"need_weights": True}, FALLBACK),
    "padding": ({"key_padding_mask": torch.arange(LENGTH).expand(SAMPLES, -1) > 3}, FALLBACK),
}


@pytest.mark.parametrize("memory", ["free", "minimal"])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("name", CALLS)
def test_self_attention(twins_of, fill, draw, name, batch_first, memory):
    options, path = CALLS[name]
    model = fill(nn.MultiheadAttention(WIDTH, HEADS, batch_first=batch_first))
    twins = twins_of(model, memory=memory)
    shape = (SAMPLES, LENGTH, WIDTH) if batch_first else (LENGTH, SAMPLES, WIDTH)

    def call(model, x):
        return model(x, x, x, **{"need_weights": False, **options})[0]

    twins.backward(draw(*shape), call=call)
    twins.check()
    assert path in twins.path("in_proj_weight")
    assert (FALLBACK in twins.path("in_proj_weight")) == (path == FALLBACK)


@pytest.mark.parametrize(
    "options",
    [{"bias": False}, {"add_bias_kv": True}, {"add_zero_attn": True}, {"kdim": 8, "vdim": 6}],
    ids=str,
)
def test_odd_attention(twins_of, fill, draw, options):
    twins = twins_of(fill(nn.MultiheadAttention(WIDTH, HEADS, **options)), 0.2)
    value = draw(LENGTH, SAMPLES, options.get("vdim", WIDTH))
    twins.backward(
        draw(LENGTH, SAMPLES, WIDTH),
        value,
        call=lambda model, x, v: model(x, x, x if "vdim" not in options else v)[0] + 0 * v.sum(),
    )
    twins.check()


def test_cross_attention_and_single_samples_fall_back(twins_of, fill, draw):
    twins = twins_of(fill(nn.MultiheadAttention(WIDTH, HEADS)))
    inputs = draw(LENGTH, SAMPLES, WIDTH), draw(7, SAMPLES, WIDTH)
    twins.backward(*inputs, call=lambda model, q, kv: model(q, kv, kv, need_weights=False)[0])
    twins.check()
    assert FALLBACK in twins.path("in_proj_weight")
    alone = twins_of(fill(nn.MultiheadAttention(WIDTH, HEADS)))
    call = lambda model, x: model(x, x, x, need_weights=False)[0]  # noqa: E731
    alone.backward(draw(LENGTH, WIDTH), call=call)
    alone.check()


@pytest.mark.parametrize("memory", ["free", "minimal"])
def test_a_mask_that_learns_gets_its_gradient(twins_of, fill, draw, memory):
    twins = twins_of(fill(nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)), memory=memory)
    twins.backward(
        draw(SAMPLES, LENGTH, WIDTH),
        draw(LENGTH, LENGTH),
        call=lambda model, x, mask: model(x, x, x, need_weights=False, attn_mask=mask)[0],
    )
    twins.check()


@pytest.mark.parametrize("memory", ["free", "minimal"])
def test_dropout_of_scores_draws_the_same_numbers(twins_of, fill, draw, memory):
    model = fill(nn.MultiheadAttention(WIDTH, HEADS, dropout=0.3, batch_first=True))
    twins = twins_of(model, memory=memory)

    def call(model, x):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            return model(x, x, x, need_weights=False)[0]

    twins.backward(draw(SAMPLES, LENGTH, WIDTH), call=call)
    twins.check()


@pytest.mark.parametrize("memory", ["free", "low", "minimal"])
@pytest.mark.parametrize("norm_first", [True, False])
def test_a_stock_encoder_layer(twins_of, fill, draw, norm_first, memory):
    layer = nn.TransformerEncoderLayer(
        WIDTH, HEADS, 12, dropout=0.0, activation="gelu", batch_first=True, norm_first=norm_first
    )
    twins = twins_of(fill(layer), memory=memory)
    twins.backward(draw(SAMPLES, LENGTH, WIDTH))
    twins.check()
    assert SAMPLED in twins.path("self_attn.in_proj_weight")


def test_no_samples(twins_of, fill, draw):
    for memory in ("free", "minimal"):
        twins = twins_of(fill(nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)), memory=memory)
        twins.backward(
            draw(0, LENGTH, WIDTH),
            call=lambda model, x: model(x, x, x, need_weights=False)[0],
        )
        twins.check()
