"""The commands end to end, as someone types them."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fewshot_bench.adapters import evaluate_saved
from fewshot_bench.cli import COMMANDS, main
from fewshot_bench.config import RunConfig
from fewshot_bench.grid import list_presets
from fewshot_bench.methods import METHODS
from fewshot_bench.results import read_result
from fewshot_bench.text import count
from vision_backbones import BackboneSpec, list_backbones
from vision_backbones.made import write_folder

SHORT = ("--checkpoint", "random", "--steps", "3", "--shots", "2")


def only_result(out: Path):
    """Read the one result of a folder."""
    (path,) = (out / "runs").glob("*.json")
    return read_result(path)


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_answers(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([*command, "--help"])
    assert end.value.code == 0
    assert "usage: fewshot" in capsys.readouterr().out


def test_no_arguments_show_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([])
    shown = capsys.readouterr().out
    assert end.value.code == 0
    assert all(name in shown for name in COMMANDS)


def test_help_needs_no_torch() -> None:
    code = (
        "import sys, contextlib, fewshot_bench.cli as cli\n"
        "with contextlib.suppress(SystemExit): cli.main(['run', '--help'])\n"
        "sys.exit(sum(name in sys.modules for name in ('torch', 'matplotlib', 'peft')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "--so.density-ratio" in done.stdout


def test_run_writes_a_result_and_shows_it(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(
        ["run", "--method", "bias", "--dataset", str(images), "--out", str(tmp_path), *SHORT]
    )
    shown = capsys.readouterr()
    result = only_result(tmp_path)
    assert (code, shown.err) == (0, "")
    assert result.run_info.status == "completed"
    assert len(result.train_info.loss) == 3
    assert f"{100 * result.train_info.accuracy:.1f} %" in shown.out
    assert f"{result.run_info.name}.json" in shown.out


def test_run_takes_every_option_of_a_method(images: Path, tmp_path: Path) -> None:
    options = ["--method", "so", "--so.T", "2", "--so.density-ratio", "0.1", "--lr", "0.002"]
    main(["run", *options, "--dataset", str(images), "--out", str(tmp_path), *SHORT])
    config = only_result(tmp_path).run_info.config
    assert (config.so.T, config.so.density_ratio, config.lr) == (2, 0.1, 0.002)


def test_what_is_typed_wins_over_a_preset(images: Path, tmp_path: Path) -> None:
    preset = tmp_path / "mine.toml"
    preset.write_text(
        "[defaults]\nsteps = 2\nhead_lr = 0.5\nlr = 0.25\ncheckpoint = 'random'\n"
        "[[override]]\nwhen = {method = ['bias', 'so']}\nset = {lr = 0.125}\n"
    )
    options = ["--preset", str(preset), "--method", "bias", "--head-lr", "0.01"]
    assert main(["run", *options, "--dataset", str(images), "--out", str(tmp_path)]) == 0
    config = only_result(tmp_path).run_info.config
    assert (config.steps, config.lr, config.head_lr) == (2, 0.125, 0.01)


def test_the_options_of_a_sweep_are_fields_of_its_runs() -> None:
    from fewshot_bench.cli import Sweep, given_fields

    assert given_fields(Sweep()) == {}
    sweep = Sweep(steps=0, weight_decay=0.0, replace=True, lr=0.5, shots=(1, 2), seeds=(3,))
    assert given_fields(sweep) == {"steps": 0, "weight_decay": 0.0, "replace": True, "lr": 0.5}
    axes = {"method", "backbone", "dataset", "shots", "seed", "checkpoint"}
    in_presets_only = {"so", "lora", "snell", "data", "place", "loop"}
    options = {f.name for f in dataclasses.fields(Sweep)}
    fields = {f.name for f in dataclasses.fields(RunConfig)}
    assert given_fields(Sweep(best_on_test=True)) == {"loop.selection": "best-on-test"}
    assert fields - options == (axes - {"shots"}) | in_presets_only


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_own_text_files(
    kind: str, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pandas

    table = pandas.read_csv(texts).rename(columns={"text": "what", "label": "kind"})
    path = tmp_path / f"own.{kind}"
    write: dict[str, Callable[[], object]] = {
        "csv": lambda: table.to_csv(path, index=False),
        "jsonl": lambda: table.to_json(path, orient="records", lines=True),
        "parquet": lambda: table.to_parquet(path),
    }
    write[kind]()
    options = ["--backbone", "tiny-bert", "--method", "linear_probe", "--dataset", str(path)]
    columns = ["--text-column", "what", "--label-column", "kind"]
    code = main(["run", *options, *columns, "--out", str(tmp_path / "out"), *SHORT])
    assert (code, capsys.readouterr().err) == (0, "")
    assert only_result(tmp_path / "out").train_info.count > 0


@pytest.mark.parametrize("method", ["so", "lora"])
def test_a_saved_model_gives_the_same_accuracy_again(
    method: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, saved = tmp_path / "out", tmp_path / "saved"
    options = ["--method", method, "--dataset", str(images), "--steps", "6", "--shots", "4"]
    places = ["--out", str(out), "--save", str(saved), "--checkpoint", "random"]
    assert main(["run", *options, *places]) == 0
    train = only_result(out).train_info
    capsys.readouterr()
    assert main(["evaluate", str(saved)]) == 0
    assert f"({train.correct} of {train.count})" in capsys.readouterr().out
    assert evaluate_saved(saved).correct == train.correct


@pytest.mark.slow
def test_a_saved_model_gives_the_same_accuracy_in_a_new_process(
    images: Path, tmp_path: Path
) -> None:
    out, saved = tmp_path / "out", tmp_path / "saved"
    options = ["--method", "snell", "--dataset", str(images), "--out", str(out)]
    assert main(["run", *options, "--save", str(saved), *SHORT]) == 0
    train = only_result(out).train_info
    fewshot = Path(sys.executable).with_name("fewshot")
    command = [fewshot, "evaluate", saved]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"({train.correct} of {train.count})" in done.stdout


def test_the_lists_name_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    names = [*METHODS, *list_presets(), "tiny-vit", "tiny-clip", "tiny-bert", "digits"]
    assert [name for name in names if name not in shown] == []


def test_one_list_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "methods"]) == 0
    shown = capsys.readouterr().out
    assert "linear_probe" in shown
    assert "digits" not in shown


@pytest.mark.parametrize("spec", list_backbones(), ids=lambda spec: spec.name)
def test_a_backbone_tells_its_size_and_where_its_weights_are(
    spec: BackboneSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", spec.name]) == 0
    shown = "".join(capsys.readouterr().out.split())
    assert count(spec.parameters) in shown
    assert f"{spec.flops / 1e9:.1f}G" in shown or count(spec.flops) in shown
    assert "".join(spec.weights.split()) in shown
    assert [address for address in spec.files if address not in shown] == []


def test_a_folder_of_transformers_tells_its_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", str(write_folder("llama", tmp_path / "my-llama"))]) == 0
    shown = capsys.readouterr().out
    assert "up to 64 tokens" in shown
    assert "FLOPs per text" in shown


def test_report_reads_what_run_wrote(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["run", "--method", "bias", "--dataset", str(images), "--out", str(tmp_path), *SHORT])
    capsys.readouterr()
    assert main(["report", str(tmp_path)]) == 0
    assert "bias" in capsys.readouterr().out
    assert (tmp_path / "report.html").is_file()


def test_a_result_is_plain_json(images: Path, tmp_path: Path) -> None:
    main(["run", "--method", "bias", "--dataset", str(images), "--out", str(tmp_path), *SHORT])
    (path,) = (tmp_path / "runs").iterdir()
    assert list(json.loads(path.read_text())) == [
        "schema_version", "run_info", "train_info", "meta_info", "digest",
    ]  # fmt: skip
