"""What a layer saves: nothing that LayerNorm or an activation can give back bit for bit."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from snell_layers import SnellLinear
from snell_layers.rebuild import cast, recipe_of, watch
from snell_layers.recompute import save_memory

WIDTH = 24


def block():
    """Two adapted layers, each behind something that can be computed again."""
    model = nn.Sequential(
        nn.LayerNorm(WIDTH),
        SnellLinear(nn.Linear(WIDTH, 48), 8, 0.5, seed=1),
        nn.GELU(),
        SnellLinear(nn.Linear(48, WIDTH), 8, 0.5, seed=2),
    )
    model[0].requires_grad_(False)
    with torch.no_grad():
        model[0].weight.add_(torch.linspace(0, 1, WIDTH))
        model[0].bias.add_(0.3)
    return model


@pytest.fixture
def x(rng, device):
    return torch.randn(5, WIDTH, generator=rng).to(device).requires_grad_()


def saved_by(model, x):
    """Sizes of what a forward keeps beside parameters, buffers and the input."""
    own = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers(), x]}
    found = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = model(x)
    return y, sum(found.values())


def test_a_block_keeps_what_the_frozen_block_keeps(device, x):
    plain = block().to(device)
    _, before = saved_by(plain, x)
    watch(plain)
    _, after = saved_by(plain, x)
    frozen = block().to(device).requires_grad_(False)
    _, floor = saved_by(frozen, x)
    tokens = len(x)
    assert before - after == tokens * (WIDTH + 48)  # the outputs of LayerNorm and GELU
    assert after - floor <= 2  # two thresholds


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_gradients_have_the_same_bits(device, x, autocast):
    found, plain = [], block().to(device)
    for watched in (False, True):
        model = copy.deepcopy(plain)
        if watched:
            watch(model)
        x.grad = None
        with torch.autocast(device.type, autocast, enabled=autocast is not None):
            y = model(x)
        y.float().square().sum().backward()
        found.append([x.grad, *[p.grad for p in model.parameters() if p.requires_grad]])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def classes():
    yield nn.LayerNorm(WIDTH)
    yield nn.LayerNorm(WIDTH, elementwise_affine=False)
    yield nn.LayerNorm(WIDTH, bias=False)
    yield from (nn.GELU(), nn.GELU(approximate="tanh"), nn.SiLU(), nn.ReLU())


@pytest.mark.parametrize("module", list(classes()), ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_a_recipe_gives_the_tensor_back(module, dtype, autocast, rng):
    module = copy.deepcopy(module)
    if not autocast:
        module = module.to(dtype)
    watch(module)
    x = torch.randn(2, 3, WIDTH, generator=rng).to(dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = module(x)
    recipe = recipe_of(y)
    again = recipe.make(*recipe.tensors)
    assert again.dtype == y.dtype
    assert torch.equal(again, y)
    narrow = recipe_of(cast(y, torch.float16))
    assert torch.equal(narrow.make(*narrow.tensors), y.to(torch.float16))


def test_a_library_s_own_norms_and_activations_are_known(rng):
    timm = pytest.importorskip("timm")
    layers = [timm.layers.LayerNorm(WIDTH), timm.layers.GELU(), timm.layers.GELUTanh()]
    activations = pytest.importorskip("transformers.activations")
    layers += [activations.ACT2FN[name] for name in ("gelu", "gelu_new", "quick_gelu")]
    x = torch.randn(3, WIDTH, generator=rng)
    for layer in layers:
        watch(layer)
        y = layer(x)
        recipe = recipe_of(y)
        assert recipe is not None, layer
        assert torch.equal(recipe.make(*recipe.tensors), y)


def test_what_may_do_more_is_left_alone(rng):
    class Noisy(nn.LayerNorm):
        def forward(self, x):
            return super().forward(x) + 1

    x = torch.randn(3, WIDTH, generator=rng)
    for module in (Noisy(WIDTH), nn.ReLU(inplace=True), nn.Softmax(-1), nn.Dropout(0.5)):
        watch(module)
        assert recipe_of(module(x.clone())) is None


@pytest.mark.parametrize("change", ["output", "input"])
def test_a_tensor_that_changed_has_no_recipe(change, rng):
    module, x = nn.GELU(), torch.randn(3, WIDTH, generator=rng)
    watch(module)
    y = module(x)
    assert recipe_of(y) is not None
    (y if change == "output" else x).add_(1)
    assert recipe_of(y) is None


def test_an_input_that_changes_before_backward_is_an_error_as_in_any_layer(device, rng):
    model = block().to(device)
    watch(model)
    x = torch.randn(5, WIDTH, generator=rng).to(device)
    y = model(x)
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_watching_twice_is_watching_once_and_copies_are_watched(device, x):
    model = block().to(device)
    watch(model)
    watch(model)
    assert all(len(model[i]._forward_hooks) == 1 for i in (0, 2))
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert saved_by(twin, x)[1] == saved_by(model, x)[1]
        assert torch.equal(twin(x), model(x))


def test_nothing_is_left_where_there_is_no_backward(x):
    module = nn.GELU()
    watch(module)
    with torch.no_grad():
        assert recipe_of(module(x)) is None


def test_low_memory_keeps_nothing_of_the_hidden_layer(device, x):
    model = block().to(device)
    save_memory(model, "free")
    y, free = saved_by(model, x)
    save_memory(model, "low")
    again, low = saved_by(model, x)
    assert torch.equal(y, again)
    assert free - low == len(x) * 48  # the input of GELU


@pytest.mark.parametrize("activation", [nn.GELU(), nn.GELU("tanh"), nn.SiLU()], ids=str)
def test_low_memory_has_the_same_gradients_and_one_product_more(device, x, activation):
    plain, found, products = block().to(device), [], []
    plain[2] = activation
    for level in ("free", "low", "low"):
        model = copy.deepcopy(plain)
        save_memory(model, level)
        x.grad = None
        with FlopCounterMode(display=False) as counter:
            model(x).square().sum().backward()
        products.append(counter.get_total_flops())
        found.append([x.grad, *[p.grad for p in model.parameters() if p.requires_grad]])
    for one in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], one, strict=True))
    assert products[1] - products[0] == 2 * len(x) * WIDTH * 48
    assert not any(getattr(m, "_snell_waiting", None) for m in model.modules())


def test_low_memory_through_checkpointing_twice_and_backward_twice(device, x):
    model = block().to(device)
    save_memory(model, "low")
    wanted = torch.autograd.grad(model(x).square().sum(), x)[0]
    y = checkpoint(model, x, use_reentrant=False).square().sum()
    first = torch.autograd.grad(y, x, retain_graph=True)[0]
    assert torch.equal(first, wanted)
    y = model(model(x)).square().sum()
    first, second = (torch.autograd.grad(y, x, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_levels_of_memory_are_named(device):
    with pytest.raises(ValueError, match="unknown memory 'least': known: free, low"):
        save_memory(block(), "least")
