"""FSDP2 for real: refused with a recipe, and the recipe. The workers are travel_fsdp_worker.py."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from so_optim import SO

HERE = Path(__file__).parent
TINY = SimpleNamespace(**runpy.run_path(str(HERE / "travel_model.py")))
LAUNCH = SimpleNamespace(**runpy.run_path(str(HERE / "travel_launch.py")))
STEPS = 7

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """The folder with what each rank ended with, and what it reports."""
    folder = tmp_path_factory.mktemp("fsdp")
    return folder, LAUNCH.launch("travel_fsdp_worker.py", folder)


@pytest.mark.parametrize(
    ("when", "who"),
    [
        ("construct", "parameter 0 (embed.weight, shape (40, 32)) is a DTensor"),
        ("sample", "'embed.weight' in model is a DTensor"),
        ("forward", "the compact leaf of 'weight' in Linear(in_features=32, out_features=96"),
        ("step", "the compact leaf of 'weight' in Linear(in_features=32, out_features=96"),
    ],
)
def test_sharded_parameters_are_refused_with_the_recipe(ranks, when, who):
    for report in ranks[1]:
        assert who in report["refused"][when]
        assert "ignored_params of fully_shard" in report["refused"][when]


def test_the_recipe_shards_everything_else(ranks):
    model = TINY.build()
    own = {f"blocks.{i}.{name}.weight" for i in (0, 1) for name in ("qkv", "proj", "fc1", "fc2")}
    for report in ranks[1]:
        whole = report["recipe"]["whole"]
        assert whole == sorted(own | {f"{name}_at_support" for name in own})
        assert report["recipe"]["sharded"] == len(list(model.parameters())) - len(own)


def test_the_recipe_follows_one_process_with_the_whole_batch(ranks):
    model = TINY.build(torch.float64).requires_grad_(True)
    weights = TINY.matrices(model)
    others = [p for p in model.parameters() if all(p is not weight for weight in weights)]
    optimizer = SO(weights, lr=1e-2, density_ratio=0.01, T=3)
    optimizer.sample_gradients(model)
    adam = torch.optim.Adam(others, lr=1e-3)
    for step in range(STEPS):
        TINY.loss_of(model, *TINY.batch(step)).backward()
        for each in (optimizer, adam):
            each.step()
            each.zero_grad()
    first, second = (torch.load(ranks[0] / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    torch.testing.assert_close(first, model.state_dict(), rtol=1e-12, atol=1e-12)
