"""From presets and options to runs."""

from collections import Counter
from pathlib import Path

import pytest

from fewshot_bench.config import DEFAULT_RATES, PEERS, RunConfig, run_name
from fewshot_bench.grid import Preset, expand, list_presets, load_preset
from fewshot_bench.methods import METHODS


def preset(tmp_path: Path, content: str):
    """Read a preset."""
    path = tmp_path / "mine.toml"
    path.write_text(content)
    return load_preset(str(path))


def test_without_anything_every_method_runs_with_three_seeds() -> None:
    runs = expand()
    assert {run.method for run in runs} == set(METHODS) - set(PEERS)
    assert {run.seed for run in runs} == {1, 2, 3}


def test_the_default_methods_are_all_methods() -> None:
    assert list(DEFAULT_RATES) == list(METHODS)


def test_lists_are_multiplied_out(tmp_path: Path) -> None:
    runs = expand(
        preset(
            tmp_path,
            """
            [[grid]]
            methods = ["so", "full"]
            shots = [1, 2]
            seeds = [5]
            lr = [0.1, 0.2, 0.3]
            steps = 7
            """,
        )
    )
    assert len(runs) == 2 * 2 * 3
    assert {run.lr for run in runs} == {0.1, 0.2, 0.3}
    assert {(run.steps, run.seed) for run in runs} == {(7, 5)}


def test_nested_fields_and_pairs(tmp_path: Path) -> None:
    runs = expand(
        preset(
            tmp_path,
            """
            [[grid]]
            methods = "so"
            shots = 1
            seeds = 1
            so = {density_ratio = [0.1, 0.2], betas = [0.8, 0.9]}
            """,
        )
    )
    assert [run.so.density_ratio for run in runs] == [0.1, 0.2]
    assert {run.so.betas for run in runs} == {(0.8, 0.9)}


def test_several_pairs_are_an_axis(tmp_path: Path) -> None:
    text = "[[grid]]\nmethods='so'\nshots=1\nseeds=1\nso.betas=[[0.8, 0.9], [0.0, 0.5]]"
    assert [r.so.betas for r in expand(preset(tmp_path, text))] == [(0.8, 0.9), (0.0, 0.5)]


def test_overrides_apply_in_order_and_see_each_other(tmp_path: Path) -> None:
    runs = expand(
        preset(
            tmp_path,
            """
            [defaults]
            steps = 10
            [[grid]]
            methods = ["so", "lora"]
            shots = [1, 4]
            seeds = [1]
            [[override]]
            when = {method = "so"}
            set = {steps = 20, so.T = 3}
            [[override]]
            when = {steps = 20, shots = [4, 16]}
            set = {lr = 0.5}
            """,
        )
    )
    seen = {(run.method, run.shots): (run.steps, run.so.T, run.lr) for run in runs}
    assert seen == {
        ("so", 1): (20, 3, None),
        ("so", 4): (20, 3, 0.5),
        ("lora", 1): (10, 5, None),
        ("lora", 4): (10, 5, None),
    }


def test_options_win_over_the_preset(tmp_path: Path) -> None:
    mine = preset(
        tmp_path,
        """
        [[grid]]
        methods = ["so", "lora"]
        shots = [1, 4]
        [[grid]]
        methods = ["full"]
        shots = [16]
        checkpoints = ["random"]
        [[override]]
        when = {}
        set = {steps = 99}
        """,
    )
    runs = expand(mine, {"shots": [2], "seed": [7]}, {"steps": 3})
    assert Counter((r.method, r.shots, r.seed, r.steps, r.checkpoint) for r in runs) == {
        ("so", 2, 7, 3, None): 1,
        ("lora", 2, 7, 3, None): 1,
        ("full", 2, 7, 3, "random"): 1,
    }


def test_the_same_run_in_two_blocks_is_one_run(tmp_path: Path) -> None:
    block = "[[grid]]\nmethods = ['so']\nshots = [1]\nseeds = [1, 2]\n"
    runs = expand(preset(tmp_path, block + block))
    assert len(runs) == 2


def test_what_trains_nothing_runs_once_per_seed() -> None:
    runs = expand(axes={"method": ["zero_shot"], "shots": [4, 1, 16], "seed": [1, 2]})
    assert [(run.shots, run.seed) for run in runs] == [(4, 1), (4, 2)]


def test_pretrained_and_random_weights_side_by_side(tmp_path: Path) -> None:
    text = "[[grid]]\nmethods='so'\nshots=1\nseeds=1\ncheckpoints=['pretrained', 'random']"
    assert [run.checkpoint for run in expand(preset(tmp_path, text))] == [None, "random"]


@pytest.mark.parametrize("name", list_presets())
def test_the_presets_that_come_along_are_valid(name: str) -> None:
    loaded = load_preset(name)
    runs = expand(loaded)
    assert loaded.title
    assert len({run_name(run) for run in runs}) == len(runs) > 0
    cells: dict[RunConfig, set[int]] = {}
    for run in runs:
        cells.setdefault(RunConfig.from_dict({**run.to_dict(), "seed": 0}), set()).add(run.seed)
    if name.endswith("rates"):  # chosen on seeds that no result has
        assert min(seed for seeds in cells.values() for seed in seeds) > 100
    else:
        assert all(len(seeds) >= 3 for seeds in cells.values())


def test_the_quickstart_has_every_method_and_a_control_on_every_bundled_backbone() -> None:
    runs = expand(load_preset("quickstart"))
    for backbone in ("tiny-vit", "tiny-clip", "tiny-bert"):
        mine = [run for run in runs if run.backbone == backbone]
        ours = {run.method for run in mine if run.checkpoint is None}
        assert ours == set(METHODS) - set(PEERS)
        assert {run.method for run in mine if run.checkpoint == "random"} >= {
            "linear_probe",
            "full",
        }
        assert {run.shots for run in mine if run.method == "so"} == {1, 4, 16}


def test_defaults_of_a_preset_stand_in_for_the_usual_axes():
    preset = Preset(defaults={"shots": 4, "method": "so"}, grid=[{"seed": [1, 2]}])
    assert [(run.method, run.shots, run.seed) for run in expand(preset)] == [
        ("so", 4, 1),
        ("so", 4, 2),
    ]
