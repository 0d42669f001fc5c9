"""Transformer blocks of timm, open_clip and transformers: gradients, and what backward keeps."""

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

WIDTH, HEADS = 24, 2
MEMORY = ("free", "low", "minimal")


def vit(width=WIDTH, heads=HEADS, **options):
    timm = pytest.importorskip("timm.models.vision_transformer")
    return timm.Block(width, heads, qkv_bias=True, **options)


def clip(width=WIDTH, heads=HEADS, quick=False):
    open_clip = pytest.importorskip("open_clip.transformer")
    act = open_clip.QuickGELU if quick else nn.GELU
    return open_clip.ResidualAttentionBlock(width, heads, act_layer=act)


def quick_clip(width=WIDTH, heads=HEADS):
    return clip(width, heads, quick=True)


def bert(width=WIDTH, heads=HEADS, dropout=0.0):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        hidden_size=width,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        attn_implementation="sdpa",
    )
    return transformers.models.bert.modeling_bert.BertLayer(config)


BLOCKS = {"vit": vit, "clip": clip, "quick_clip": quick_clip, "bert": bert}
MASKED = {
    "vit": lambda block, x: block(x, is_causal=True),
    "clip": lambda block, x: block(x, attn_mask=triangle(x).masked_fill(triangle(x) > 0, -9.0)),
    "quick_clip": lambda block, x: block(x, attn_mask=triangle(x).masked_fill(triangle(x) > 0, -9)),
    "bert": lambda block, x: block(x, triangle(x)[None, None] == 0),
}


def triangle(x):
    """Ones where a token would see a later one."""
    return torch.ones(x.shape[1], x.shape[1], dtype=x.dtype).triu(1)


@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
@pytest.mark.parametrize("density", [1e-4, 0.01, 0.1])
@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("name", BLOCKS)
def test_gradients_of_a_block(twins_of, fill, draw, name, memory, density, masked):
    twins = twins_of(fill(BLOCKS[name]()), density, memory)
    call = MASKED[name] if masked else (lambda block, x: block(x))
    for _ in range(2):  # the second time gradients accumulate
        twins.backward(draw(3, 6, WIDTH), call=call)
    twins.check()
    assert "dense gradient" not in repr(twins.sampling)


def unwrapped(model):
    """Weights, buffers and supports: what is there anyway."""
    from so_optim.sampled.layers import Sampled

    own = [*model.parameters(), *model.buffers()]
    for module in model.modules():
        if isinstance(module, Sampled):
            own += [each for leaf in module._so_leaves.values() for each in (leaf.rows, leaf.cols)]
    return {each.untyped_storage().data_ptr() for each in own}


def kept_units(model, tokens, width):
    """What a forward pass saves, in activations of one width; the input and what is there apart."""
    x = torch.randn(1, tokens, width, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()
    anyway, storages = unwrapped(model), {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in anyway and tensor.dtype != torch.int32:
            storages[storage.data_ptr()] = storage
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        out = model(x)
    total = sum(storage.nbytes() for storage in storages.values())
    out.sum().backward()
    return total / (tokens * width * 4)


@pytest.mark.parametrize("density", [5e-5, 1e-3, 0.1])
@pytest.mark.parametrize("name", ["vit", "clip", "quick_clip"])
def test_what_backward_keeps(twins_of, fill, name, density):
    width, tokens = 768, 64
    block = fill(BLOCKS[name](width, 12), torch.float32)
    kept = {}
    for memory in MEMORY:
        twins = twins_of(block, density, memory)
        kept[memory] = kept_units(twins.sampled, tokens, width)
    trained = kept_units(block, tokens, width)
    floor = kept_units(block.requires_grad_(False), tokens, width)
    assert (round(trained), round(floor)) == {
        "vit": (16, 10),
        "clip": (16, 10),
        "quick_clip": (20, 14),
    }[name]
    assert kept["free"] <= 10.1
    assert name == "quick_clip" or abs(kept["free"] - floor) < 0.01
    assert kept["low"] <= 6.1
    assert kept["minimal"] <= 3.1


@pytest.mark.parametrize("memory", MEMORY)
def test_bert_with_dropout_draws_the_same_numbers(twins_of, fill, draw, memory):
    twins = twins_of(fill(bert(dropout=0.2)), memory=memory)

    def call(model, x):
        with torch.random.fork_rng():
            torch.manual_seed(5)
            return model(x)

    twins.backward(draw(2, 5, WIDTH), call=call)
    twins.check()


def hooked_layer(block):
    block.mlp.fc1.register_forward_hook(lambda module, args, out: out * 2)


def hooked_activation(block):
    block.mlp.act.register_forward_pre_hook(lambda module, args: (args[0] + 1,))


def hooked_backward(block):
    block.mlp.fc2.register_full_backward_hook(lambda module, grads, _: (grads[0] * 2,))


def own_forward(block):
    layer = block.mlp.fc1
    layer.forward = lambda x: nn.functional.linear(x, layer.weight) - 1


def own_activation(block):
    block.mlp.act = nn.Hardswish()


def normed_hidden(block):
    block.mlp.norm = nn.LayerNorm(4 * WIDTH)


def hooked_qkv(block):
    block.attn.qkv.register_forward_hook(lambda module, args, out: out * 2)


def parametrized(block):
    nn.utils.parametrize.register_parametrization(block.mlp.fc1, "weight", Doubled())
    nn.utils.parametrize.register_parametrization(block.attn.qkv, "weight", Doubled())


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize(
    "change",
    [
        *(hooked_layer, hooked_activation, hooked_backward, own_forward, own_activation),
        *(normed_hidden, hooked_qkv, parametrized),
    ],
)
def test_what_was_changed_keeps_its_own_way(fill, draw, twins_of, change, memory):
    block = vit()
    change(block)
    twins = twins_of(fill(block), memory=memory)
    if change is own_forward:  # a copy's closure still calls the original layer
        own_forward(twins.sampled)
    twins.backward(draw(2, 5, WIDTH))
    twins.check()


ODD = [{"qk_norm": True}, {"init_values": 0.1}, {"proj_drop": 0.3}, {"attn_drop": 0.3}]


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("options", ODD, ids=str)
def test_other_vit_blocks(twins_of, fill, draw, options, memory):
    twins = twins_of(fill(vit(**options)), memory=memory)

    def call(model, x):
        with torch.random.fork_rng():
            torch.manual_seed(2)
            return model(x)

    twins.backward(draw(2, 5, WIDTH), call=call)
    twins.check()


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("options", [{"gated": True}, {"scale_norm": True}, {}], ids=str)
@pytest.mark.parametrize("fused", [True, False])
def test_other_attention(twins_of, fill, draw, options, fused, memory):
    layers = pytest.importorskip("timm.layers")
    if options:
        options = {**options, "norm_layer": nn.LayerNorm}
    layer = layers.Attention(WIDTH, HEADS, qkv_bias=True, **options)
    layer.fused_attn = fused
    twins = twins_of(fill(layer), memory=memory)
    twins.backward(draw(2, 5, WIDTH))
    twins.check()


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("dense", ["mlp.fc1", "mlp.fc2", "attn.qkv"])
@pytest.mark.parametrize("frozen", [False, True])
def test_some_matrices_are_dense_or_frozen(fill, draw, dense, frozen, memory):
    """Each group has its way; a frozen neighbour still lets the MLP be rebuilt."""
    import copy

    from so_optim import SO

    block = fill(vit())
    twin = copy.deepcopy(block)
    for each in (block, twin):
        each.get_submodule(dense).weight.requires_grad_(not frozen)
    own = [p for name, p in block.named_parameters() if name != f"{dense}.weight"]
    groups = [{"params": own}, {"params": [block.get_submodule(dense).weight], "dense": True}]
    x = draw(2, 5, WIDTH)
    with SO(groups, density_ratio=0.1).sample_gradients(block, memory=memory) as sampling:
        for each in (block, twin):
            each(x).square().sum().backward()
        expected = dict(twin.named_parameters())
        for weight, leaf in sampling.leaves.items():
            theirs = expected[sampling.names[weight]].grad.flatten()[leaf.positions()]
            torch.testing.assert_close(leaf.values.grad, theirs, rtol=1e-11, atol=1e-11)
        for name, parameter in block.named_parameters():
            if parameter.requires_grad and not name.endswith("_at_support"):
                torch.testing.assert_close(parameter.grad, expected[name].grad)
        assert (block.get_submodule(dense).weight.grad is None) == frozen


def test_evaluation_leaves_no_graph_and_the_same_numbers(fill, draw, twins_of):
    for memory in MEMORY:
        twins = twins_of(fill(vit()), memory=memory)
        x = draw(2, 5, WIDTH)
        for mode in (torch.no_grad, torch.inference_mode):
            with mode():
                ours, theirs = twins.sampled.eval()(x), twins.dense.eval()(x)
                assert not ours.requires_grad
                torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
