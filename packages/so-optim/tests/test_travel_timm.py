"""timm's optimizer registry, and sampled gradients after it."""

import pytest
import torch

from so_optim import SO

timm = pytest.importorskip("timm")
registry = pytest.importorskip("timm.optim._optim_factory").default_registry


@pytest.fixture
def create():
    """What timm makes of a registered SO, for a tiny ViT."""
    info = timm.optim.OptimInfo(name="so", opt_class=SO, description="Sparse Optimization")
    registry.register(info)

    def create(**settings):
        model = timm.create_model(
            "vit_tiny_patch16_224",
            **{"img_size": 16, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_classes": 5},
        )
        settings = {"lr": 1e-3, "weight_decay": 0.05, "density_ratio": 0.01, "T": 2, **settings}
        return model, timm.optim.create_optimizer_v2(model, opt="so", **settings)

    yield create
    del registry._optimizers["so"]


def steps(model, optimizer, number=5):
    rng = torch.Generator().manual_seed(0)
    for _ in range(number):
        model(torch.randn(2, 3, 16, 16, generator=rng)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_settings_reach_so(create):
    _, optimizer = create()
    assert isinstance(optimizer, SO)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0, 0.05]
    assert all(group["density_ratio"] == 0.01 for group in optimizer.param_groups)
    assert all(p.ndim > 1 for p in optimizer.param_groups[1]["params"])  # before sampling


@pytest.mark.parametrize("settings", [{}, {"layer_decay": 0.7}])
def test_sampled_gradients_follow(create, settings):
    model, optimizer = create(**settings)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    rates = [(group["weight_decay"], group.get("lr_scale")) for group in optimizer.param_groups]
    optimizer.sample_gradients(model)
    assert rates == [(g["weight_decay"], g.get("lr_scale")) for g in optimizer.param_groups]
    steps(model, optimizer)
    matrix = "blocks.1.mlp.fc2.weight"
    moved = (model.state_dict()[matrix] != start[matrix]).sum()
    assert 0 < moved <= 3 * int(0.01 * start[matrix].numel())


def test_the_averaged_model_follows(create):
    """timm copies the model and writes into the copy's state dict."""
    model, optimizer = create()
    optimizer.sample_gradients(model)
    average = timm.utils.ModelEmaV3(model, decay=0.0)
    steps(model, optimizer)
    average.update(model)
    theirs = average.module.state_dict()
    torch.testing.assert_close(theirs, model.state_dict(), rtol=0, atol=0)
