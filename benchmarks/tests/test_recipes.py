"""Every recipe runs: a copy of its data, weights in the published format, three steps, a result."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fewshot_bench.config import RunConfig, SnellOptions, run_name
from fewshot_bench.grid import expand, list_presets, load_preset, preset_of_run
from fewshot_bench.pipeline import run
from fewshot_bench.results import read_result, write_result
from fewshot_bench.scores import SCORES
from fewshot_data import load_spec
from fewshot_data.made import make
from vision_backbones.made import forms_of, shrunk, write_checkpoint

RECIPES = [name for name in list_presets() if name.startswith("recipes/")]
FORMS = {
    "ViT-B-16.pt": "openai", "bert-base-uncased": "bert-folder", "ViT-B_16.npz": "google",
    "ViT-L_16.npz": "google", "ViT-H_14.npz": "google", "mae_pretrain_vit_base.pth": "mae",
    "linear-vit-b-300ep.pth.tar": "moco-v3-linear", "convnext_base_22k_224.pth": "convnext",
    "swin_base_patch4_window7_224_22k.pth": "swin",
}  # fmt: skip
"""The form of each published file that a recipe names."""


def chosen() -> Iterator[object]:
    """Give a run for every weights, method and dataset of every recipe; most are slow together."""
    seen: set[object] = set()
    for name in RECIPES:
        for config in expand(load_preset(name)):
            model = (name, config.backbone, config.checkpoint, config.method)
            whole = (*model, config.dataset)
            if whole in seen:
                continue
            new = not {model, config.dataset} <= seen
            seen |= {model, whole, config.dataset}
            marks = () if new else pytest.mark.long
            yield pytest.param(config, id="-".join([*map(str, whole)]), marks=marks)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of datasets and one of weights; they fill up as tests ask."""
    return tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("weights")


def tiny(config: RunConfig, places: tuple[Path, Path]) -> RunConfig:
    """The same run, with three steps, and fp32 where a GPU would be needed."""
    root, weights = places
    if not (weights / str(config.checkpoint)).exists():
        form = FORMS[str(config.checkpoint)]
        made = write_checkpoint(config.backbone, form, weights / f"made-{config.checkpoint}")
        made.rename(weights / str(config.checkpoint))
    spec = load_spec(config.dataset)
    if not (root / f"{spec.name}.made").exists():
        make(spec, root)
        (root / f"{spec.name}.made").touch()
    # The smallest matrix of the small Swin has 64 entries, of which 0.99 would leave none.
    snell = replace(config.snell, sparsity=min(config.snell.sparsity, 0.9))
    loop = replace(config.loop, epochs=None, precision="fp32")
    return replace(
        config, root=str(root), weights=str(weights), device="cpu", loop=loop, snell=snell, steps=3,
        shots=min(config.shots, 1) if config.protocol != "official" else config.shots,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # a copy has fewer samples than the published counts
@pytest.mark.parametrize("config", list(chosen()))
def test_a_recipe_runs(config: RunConfig, places: tuple[Path, Path], tmp_path: Path) -> None:
    with shrunk():
        result = run(tiny(config, places))
    path = write_result(result, tmp_path / "result.json")
    info = read_result(path).train_info
    assert result.run_info.status == "completed", result.run_info.error
    assert len(info.loss) == (0 if config.method == "zero_shot" else 3)
    assert all(torch.tensor(info.loss).isfinite())
    assert info.count
    assert info.metric in SCORES
    assert info.score is not None
    assert str(places[0]) not in path.read_text()


def test_recipes_name_weights_in_published_forms() -> None:
    names = {(c.backbone, c.checkpoint) for n in RECIPES for c in expand(load_preset(n))}
    with shrunk() as catalog:
        for backbone, checkpoint in names:
            assert FORMS[str(checkpoint)] in forms_of(catalog[backbone])


@pytest.mark.parametrize("name", RECIPES)
def test_one_command_gives_a_row_of_the_grid(name: str) -> None:
    preset = load_preset(name)
    rows = {run_name(config): config for config in expand(preset)}
    usual = preset_of_run(preset, RunConfig())
    for config in list(rows.values())[:: max(1, len(rows) // 12)]:
        if (config.backbone, config.checkpoint) == (usual.backbone, usual.checkpoint):
            typed = replace(
                RunConfig(), dataset=config.dataset, shots=config.shots, seed=config.seed,
                protocol=config.protocol, so=config.so, lora=config.lora,
                snell=replace(SnellOptions(), r=config.snell.r),
            )  # fmt: skip
            assert run_name(preset_of_run(preset, typed)) in rows
