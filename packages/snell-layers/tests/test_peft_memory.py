"""What adapters of PEFT keep for backward, on every family of models: level by level, same bits."""

import copy
import importlib.util
from pathlib import Path

import pytest
import torch

pytest.importorskip("peft")

from peft import get_peft_model

from snell_layers.peft import SnellConfig

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

MODELS = Path(__file__).with_name("peft_models.py")
_spec = importlib.util.spec_from_file_location("peft_models", MODELS)
models = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(models)


def step(name, model, batch):
    """Gradients of one step, and the bytes that its forward keeps beside the model's own."""
    own = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.random.fork_rng(), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        torch.manual_seed(3)  # of the model's own dropout
        loss = models.CASES[name].call(model, batch).square().mean()
    loss.backward()
    return {n: p.grad for n, p in model.named_parameters() if p.requires_grad}, sum(kept.values())


@pytest.mark.parametrize("name", models.CASES)
def test_levels_have_the_same_gradients_and_keep_less(name, rng, device):
    pytest.importorskip(models.CASES[name].library)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        base = models.CASES[name].build().to(device).train()
    batch = {key: value.to(device) for key, value in models.INPUTS[name](rng).items()}
    found = {}
    for level in ("free", "low"):
        options = {"r": 8, "sparsity": 0.8, "seed": 3, **models.CASES[name].options}
        model = get_peft_model(copy.deepcopy(base), SnellConfig(**options, memory=level))
        found[level] = step(name, model, batch)
    (free, free_bytes), (low, low_bytes) = found["free"], found["low"]
    assert free.keys() == low.keys()
    for key, gradient in free.items():
        assert torch.equal(gradient, low[key]), key
    assert low_bytes <= free_bytes


def test_a_vision_transformer_keeps_what_the_frozen_one_keeps(rng, device):
    """10 widths a token and block; 6 at the level "low"."""
    timm = pytest.importorskip("timm")
    width, depth, batch = 48, 3, 4
    with torch.random.fork_rng():
        torch.manual_seed(7)
        base = timm.models.VisionTransformer(
            img_size=32, patch_size=8, embed_dim=width, depth=depth, num_heads=3, num_classes=5
        )
    images = {"image": torch.rand(batch, 3, 32, 32, generator=rng).to(device)}
    unit = 4 * batch * 17 * width
    found = {}
    for level in ("free", "low"):
        targets = ["attn.qkv", "attn.proj", "fc1", "fc2"]
        config = SnellConfig(r=8, sparsity=0.8, target_modules=targets, memory=level)
        model = get_peft_model(copy.deepcopy(base), config).to(device).train()
        deeper = step("timm-vit", model, images)[1]
        del model.base_model.model.blocks[-1]
        found[level] = (deeper - step("timm-vit", model, images)[1]) / unit
    assert 10 <= found["free"] < 10.5
    assert 6 <= found["low"] < 6.5


def test_frozen_blocks_below_the_first_adapter_keep_nothing(rng, device):
    timm = pytest.importorskip("timm")
    images = {"image": torch.rand(2, 3, 16, 16, generator=rng).to(device)}
    found = []
    for depth in (2, 5):
        base = timm.models.VisionTransformer(
            img_size=16, patch_size=8, embed_dim=24, depth=depth, num_heads=3, num_classes=5
        )
        targets = rf"blocks\.{depth - 1}\.mlp\.fc[12]"
        model = get_peft_model(base, SnellConfig(r=8, target_modules=targets)).to(device).train()
        found.append(step("timm-vit", model, images)[1])
    assert found[0] == found[1] > 0
