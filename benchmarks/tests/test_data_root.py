"""Datasets on disk in the benchmarks: found by `--root`, and nothing of it is recorded."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fewshot_bench.cli import main
from fewshot_bench.config import RunConfig, run_name
from fewshot_bench.task import open_task
from fewshot_data import few_shot, load_spec
from fewshot_data.made import make

SHORT = ["--checkpoint", "random", "--steps", "1", "--shots", "1", "--method", "linear_probe"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all data with two datasets."""
    folder = tmp_path_factory.mktemp("data")
    make(load_spec("dtd"), folder)
    make(load_spec("fs-oxford_pets"), folder)
    return folder


def test_run_and_sweep_find_data_and_record_no_path(root: Path, tmp_path: Path) -> None:
    common = ["--root", str(root), "--out", str(tmp_path)]
    assert main(["run", "--dataset", "dtd", "--seed", "1", *common, *SHORT]) == 0
    sweep = ["sweep", "--datasets", "dtd", "--seeds", "1", "2", "--shots", "1", "--steps", "1"]
    sweep += ["--checkpoints", "random", "--methods", "linear_probe", "--backbones", "tiny-vit"]
    assert main([*sweep, *common, "--jobs", "1"]) == 0
    paths = sorted((tmp_path / "runs").glob("*.json"))
    infos = [json.loads(path.read_text())["run_info"] for path in paths]
    assert [info["status"] for info in infos] == ["completed"] * 2  # the sweep knows the run's name
    assert not any(str(root) in path.read_text() for path in paths)
    assert not any("root" in info["config"] for info in infos)


def test_a_saved_model_is_evaluated_below_another_root(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    options = ["--dataset", "dtd", "--root", str(root), "--out", str(tmp_path / "out")]
    assert main(["run", *options, *SHORT, "--save", str(model)]) == 0
    make(load_spec("dtd"), tmp_path / "moved")
    assert main(["evaluate", str(model), "--root", str(tmp_path / "moved")]) == 0
    assert str(root) not in (model / "run.json").read_text()
    assert "accuracy" in capsys.readouterr().out


def test_without_a_root_the_error_says_what_to_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FEWSHOT_DATA_ROOT", raising=False)
    assert main(["run", "--dataset", "dtd", "--out", str(tmp_path), *SHORT]) == 2
    assert "--root" in capsys.readouterr().err


def test_published_protocols_draw_with_the_seed_as_typed(root: Path) -> None:
    config = RunConfig(method="linear_probe", dataset="dtd", shots=2, seed=1, checkpoint="random")
    for protocol in ("coop", "so"):
        data, _ = open_task(replace(config, protocol=protocol, root=str(root)))
        wanted = few_shot("dtd", 2, seed=1, protocol=protocol, root=root)
        assert data.train.indices == wanted.train.indices, protocol
    # Its lists exist for the seeds 0, 1 and 2 only.
    lists = replace(config, dataset="fs-oxford_pets", shots=1, protocol="official", root=str(root))
    assert len(open_task(lists)[0].train) > 0


def test_two_roots_are_two_draws_and_one_name(root: Path, tmp_path: Path) -> None:
    config = RunConfig(method="linear_probe", dataset="dtd", shots=1, checkpoint="random")
    names = []
    for place, layout in ((root, "coop"), (tmp_path, "original")):
        make(load_spec("dtd"), place, layout=layout)
        found = replace(config, root=str(place))
        data, _ = open_task(found)
        names.append((run_name(found), data.published))
    assert names[0][0] == names[1][0]
    assert [published for _, published in names] == [True, False]
