"""Autocast, activation checkpointing, `functional_call`, a second backward pass."""

import copy

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from so_optim import SO

WIDTH, HEADS = 16, 2
MEMORY = ("free", "low", "minimal")


def vit():
    timm = pytest.importorskip("timm.models.vision_transformer")
    return timm.VisionTransformer(
        *(8, 4, 3, 5), embed_dim=WIDTH, depth=2, num_heads=HEADS, mlp_ratio=2
    )


def clip():
    open_clip = pytest.importorskip("open_clip.transformer")
    return open_clip.Transformer(WIDTH, 2, HEADS, act_layer=open_clip.QuickGELU)


def bert():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=30,
        hidden_size=WIDTH,
        num_attention_heads=HEADS,
        num_hidden_layers=2,
        intermediate_size=2 * WIDTH,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="sdpa",
    )
    return transformers.BertModel(config, add_pooling_layer=False)


MODELS = {
    "vit": (vit, lambda model, x: model(x.view(2, 3, 8, 8))),
    "clip": (clip, lambda model, x: model(x.view(3, 8, 16), attn_mask=upper(x, 8))),
    "bert": (bert, lambda model, x: model((x.view(6, 64)[:, :7] * 9).abs().long())[0]),
}


def upper(x, length):
    return torch.full((length, length), -torch.inf, dtype=x.dtype).triu(1)


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("name", MODELS)
def test_whole_models(twins_of, fill, draw, name, memory):
    build, call = MODELS[name]
    twins = twins_of(fill(build()), 0.02, memory)
    twins.backward(draw(384), call=call)
    twins.check()


def cotangent(out):
    return torch.linspace(-1, 1, out.numel(), device=out.device).view_as(out).to(out)


@pytest.mark.parametrize("density", [0.01, 0.2])
@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16], ids=["autocast", "bf16"])
def test_low_precision(twins_of, fill, draw, weights, name, memory, density):
    """As near to the exact gradient as the dense path with the same rounding, or nearly so."""
    build, call = MODELS[name]
    twins = twins_of(fill(build(), weights), density, memory)
    exact = copy.deepcopy(twins.dense).double()
    x = draw(384, dtype=weights)
    dtypes = []
    for model in (twins.dense, twins.sampled, exact):
        lower = weights == torch.float32 and model is not exact
        with torch.autocast("cpu", torch.bfloat16, enabled=lower):
            out = call(model, x.double() if model is exact else x)
        out.backward(cotangent(out))
        dtypes.append(out.dtype)
    assert dtypes[0] == dtypes[1]
    truth = dict(exact.named_parameters())
    off = {"ours": [], "theirs": []}
    for name, ours, theirs in twins.gradients():
        if theirs is None:
            assert ours is None
            continue
        whole = truth[name].grad
        leaf = twins.sampling.leaves.get(dict(twins.sampled.named_parameters())[name])
        right = whole if leaf is None else whole.flatten()[leaf.positions()]
        scale = whole.norm() / whole.numel() ** 0.5 * right.numel() ** 0.5
        off["ours"].append(((ours - right).norm() / scale).item())
        off["theirs"].append(((theirs - right).norm() / scale).item())
    keys = [i for i, (_, ours, _) in enumerate(twins.gradients()) if ours is not None]
    assert keys
    ours, theirs = (torch.tensor(each) for each in off.values())
    good = theirs < 0.5  # where bf16 says anything: the key bias' gradient is rounding alone
    assert good.sum() > len(good) / 2
    assert ours[good].mean() < 1.25 * theirs[good].mean() + 2**-9


@pytest.mark.parametrize("memory", MEMORY)
def test_autocast_keeps_no_copy_of_a_weight(twins_of, fill, draw, memory):
    build, call = MODELS["vit"]
    twins = twins_of(fill(build(), torch.float32), memory=memory)
    shapes = {p.shape for p in twins.sampled.parameters() if p.ndim == 2}
    shapes |= {torch.Size(reversed(shape)) for shape in shapes}
    own = {p.untyped_storage().data_ptr() for p in twins.sampled.parameters()}
    copies = []

    def pack(tensor):
        if tensor.shape in shapes and tensor.untyped_storage().data_ptr() not in own:
            copies.append(tensor.shape)
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        call(twins.sampled, draw(384, dtype=torch.float32)).sum().backward()
    assert not copies


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "blocks"])
def test_activation_checkpointing_is_bit_equal(twins_of, fill, draw, name, memory, whole):
    build, call = MODELS[name]
    model = fill(build(), torch.float32)
    plain, again = twins_of(model, 0.02, memory), twins_of(model, 0.02, memory)
    x = draw(384, dtype=torch.float32)
    out = call(plain.sampled, x)
    out.backward(cotangent(out))
    norms = [each for each in again.sampled.modules() if isinstance(each, nn.LayerNorm)]
    calls = []
    norms[1].register_forward_hook(lambda *_: calls.append(1))
    if whole:
        out = checkpoint(call, again.sampled, x, use_reentrant=False)
    else:
        switch = again.sampled
        if name == "bert":
            new = hasattr(switch, "activation_checkpointing_enable")  # since transformers 5.20
            enable = (
                switch.activation_checkpointing_enable
                if new
                else (switch.gradient_checkpointing_enable)
            )
            enable({"use_reentrant": False})
        elif name == "vit":
            switch.set_grad_checkpointing()
        else:
            switch.grad_checkpointing = True
        out = call(again.sampled.train(), x)
    out.backward(cotangent(out))
    pairs = zip(plain.sampled.named_parameters(), again.sampled.parameters(), strict=True)
    for (name, ours), theirs in pairs:
        torch.testing.assert_close(theirs.grad, ours.grad, rtol=0, atol=0, msg=name)
    assert len(calls) == 2


def test_functional_call_with_other_weights(twins_of, fill, draw):
    """The gradient of the leaf belongs to the weights of the call."""
    model = fill(nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3)))
    other = fill(copy.deepcopy(model))
    twins = twins_of(model)
    x = draw(5, 6)
    weights = {name: p.detach() for name, p in other.named_parameters()}
    torch.func.functional_call(twins.sampled, weights, x).square().sum().backward()
    other(x).square().sum().backward()
    expected = dict(other.named_parameters())
    for weight, leaf in twins.sampling.leaves.items():
        theirs = expected[twins.sampling.names[weight]].grad.flatten()[leaf.positions()]
        torch.testing.assert_close(leaf.values.grad, theirs, rtol=1e-12, atol=1e-13)


def test_functional_call_with_other_leaves(twins_of, fill, draw):
    """The leaves are parameters too: their gradients can be asked for by `torch.autograd.grad`."""
    twins = twins_of(fill(nn.Linear(6, 8)))
    leaf = next(iter(twins.sampling.leaves.values()))
    fresh = torch.zeros_like(leaf.values, requires_grad=True)
    x = draw(5, 6)
    out = torch.func.functional_call(twins.sampled, {"weight_at_support": fresh}, x)
    (grad,) = torch.autograd.grad(out.square().sum(), fresh)
    twins.sampled(x).square().sum().backward()
    torch.testing.assert_close(grad, leaf.values.grad, rtol=0, atol=0)


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("name", ["vit", "clip", "layers"])
def test_functional_call_with_weights_that_want_a_gradient(fill, draw, name, memory):
    """Then it is theirs, and dense."""
    if name == "layers":
        build, call = Layers, lambda model, x: model(x[:48].view(1, 3, 4, 4))
    else:
        build, call = MODELS[name]
    model = fill(build())
    twin = copy.deepcopy(model)
    SO(model.parameters(), density_ratio=0.1).sample_gradients(model, memory=memory)
    x = draw(384)
    own = {name: p.detach().clone().requires_grad_() for name, p in twin.named_parameters()}
    wrapped = Called(model, call)
    torch.func.functional_call(
        wrapped, {f"model.{n}": p for n, p in own.items()}, x
    ).sum().backward()
    call(twin, x).sum().backward()
    for name, theirs in twin.named_parameters():
        torch.testing.assert_close(own[name].grad, theirs.grad, rtol=1e-9, atol=1e-11, msg=name)


class Called(nn.Module):
    """A model with a way to call it."""

    def __init__(self, model, call):
        super().__init__()
        self.model, self.call = model, call

    def forward(self, x):
        return self.call(self.model, x)


class Layers(nn.Module):
    """Patches, an embedding and a matrix of its own."""

    def __init__(self):
        super().__init__()
        self.patches, self.embedding = nn.Conv2d(3, 4, 2, 2), nn.Embedding(5, 4)
        self.mix = nn.Parameter(torch.empty(4, 4))

    def forward(self, image):
        tokens = torch.tensor([1, 2, 2, 0])
        return (self.patches(image).flatten(2).transpose(1, 2) + self.embedding(tokens)) @ self.mix


@pytest.mark.parametrize("memory", ["free", "minimal"])
def test_a_second_backward_pass_is_refused_clearly(fill, draw, memory):
    model = fill(vit())
    SO(model.parameters(), density_ratio=0.1).sample_gradients(model, memory=memory)
    x = draw(2, 3, 8, 8).requires_grad_()
    (grad,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.square().sum().backward()


def test_a_graph_that_is_kept_can_be_used_again(twins_of, fill, draw):
    for memory in MEMORY:
        twins = twins_of(fill(vit()), memory=memory)
        x = draw(2, 3, 8, 8)
        for model in (twins.dense, twins.sampled):
            loss = model(x).square().sum()
            loss.backward(retain_graph=True)
            loss.backward()
        twins.check()


def test_the_input_of_a_norm_may_change_after_it(fill, draw):
    """A frozen norm keeps nothing, so nobody else would notice."""
    model = fill(nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 4)))
    model[0].requires_grad_(False)
    twin = copy.deepcopy(model)
    x, lower = draw(5, 6), fill(nn.Linear(6, 6))
    sampling = SO(model.parameters(), density_ratio=0.5).sample_gradients(model)
    for each in (model, twin):
        data = x.clone()
        hidden = each[0](data)
        data.zero_()
        each[1](hidden).square().sum().backward()
        steady = lower(x)
        each[1](each[0](steady)).square().sum().backward()
    (leaf,) = sampling.leaves.values()
    torch.testing.assert_close(
        leaf.values.grad, twin[1].weight.grad.flatten()[leaf.positions()], rtol=1e-12, atol=0
    )


def test_an_output_that_changes_in_place_has_no_recipe(twins_of, fill, draw):
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.layer = nn.LayerNorm(6), nn.Linear(6, 4)

        def forward(self, x):
            return self.layer(self.norm(x).add_(x))

    twins = twins_of(fill(Shifted()))
    twins.backward(draw(5, 6))
    twins.check()
    assert "columns" in twins.path("layer.weight")
