"""Wrong input: one line that says what to do, exit code 2, no traceback unless it is asked for."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from fewshot_bench.cli import main
from fewshot_bench.results import read_result

Complaint = Callable[..., str]
SHORT = ("--method", "bias", "--checkpoint", "random", "--steps", "2", "--shots", "2")


@pytest.fixture
def complaint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Complaint:
    """Type something wrong and give the one line that answers."""

    def typed(*arguments: str | Path) -> str:
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == 2
        shown = capsys.readouterr()
        line = shown.err
        assert line.startswith("fewshot: ")
        assert line.count("\n") == 1, line
        assert line.endswith("\n")
        assert "Traceback" not in shown.out + shown.err
        assert not re.search("tyro|applied to", line), line  # what only the parser knows
        return line

    return typed


@pytest.fixture
def run(complaint: Complaint, images: Path, tmp_path: Path) -> Complaint:
    """Do a short run on own images, with something wrong."""

    def typed(*arguments: str | Path) -> str:
        return complaint("run", "--out", tmp_path, "--dataset", images, *SHORT, *arguments)

    return typed


@pytest.fixture
def own(images: Path, tmp_path: Path) -> Path:
    """A copy of the images that a test may break."""
    return Path(shutil.copytree(images, tmp_path / "own"))


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["rnu"], "run"),
        (["run", "--metod", "so"], "--method"),
        (["run", "--so.densty-ratio", "0.1"], "--so.density-ratio"),
        (["run", "--so.densty", "0.1"], "--so.density-ratio"),
        (["sweep", "--methds", "so"], "--methods"),
        (["sweep", "--method", "so"], "--methods"),
        (["run", "--schedule", "cosin"], "cosine"),
        (["list", "method"], "methods"),
        (["run", "--method", "laro"], "lora"),
        (["run", "--backbone", "tiny-vitt"], "tiny-vit"),
        (["run", "--dataset", "digit"], "digits"),
        (["run", "--preset", "quikstart"], "quickstart"),
        (["sweep", "--preset", "quikstart"], "quickstart"),
        (["sweep", "--methods", "so", "laro"], "lora"),
        (["sweep", "--backbones", "tiny-brt"], "tiny-bert"),
        (["sweep", "--datasets", "digit"], "digits"),
        (["sweep", "--preset", "smoke", "--checkpoints", "pretraind"], "pretrained"),
        (["run", "--protocol", "nestd"], "nested"),
    ],
)
def test_the_closest_name_is_offered(
    arguments: list[str], meant: str, complaint: Complaint, tmp_path: Path
) -> None:
    place = [] if arguments[0] in ("rnu", "list") else ["--out", tmp_path]
    line = complaint(*arguments, *place)
    assert re.search(rf"['`(]{re.escape(meant)}['`]", line), line


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_one_line_whatever_the_terminal_can_draw(encoding: str) -> None:
    fewshot = Path(sys.executable).with_name("fewshot")
    done = subprocess.run(
        [fewshot, "run", "--metod", "so"],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "fewshot: Unrecognized options: --metod, so: did you mean '--method'?; "
        "see `fewshot run --help`\n"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "--shots", "many"], "--shots"),
        (["run", "--shots", "0"], "shots must be at least 1"),
        (["run", "--lr", "-1"], "lr must be a positive number"),
        (["run", "--lora.r", "0"], "lora.r must be at least 1, got 0"),
        (["sweep", "--so.T", "3"], "Unrecognized options: --so.T, 3"),
        (["run", "--device", "tpu"], "use cpu, cuda"),
        (["run", "--method", "zero_shot"], "needs a backbone of family 'clip'"),
        (["run", "--backbone", "tiny-bert"], "reads text"),
        (["sweep", "--jobs", "0"], "--jobs must be at least 1"),
        (["sweep", "--steps", "-3"], "steps must be 0 or more"),
        (["evaluate"], "fewshot evaluate --help"),
    ],
)
def test_a_wrong_value_is_named(
    arguments: list[str], says: str, complaint: Complaint, tmp_path: Path
) -> None:
    place = [] if arguments[0] == "evaluate" else ["--out", tmp_path]
    assert says in complaint(*arguments, *place)


def test_a_missing_folder_is_named(run: Complaint, tmp_path: Path) -> None:
    assert "nowhere" in run("--dataset", tmp_path / "nowhere")
    assert "no dataset at 'nowhere/'" in run("--dataset", "nowhere/")


@pytest.mark.parametrize("command", ["evaluate", "report"])
def test_a_missing_folder_of_results_is_named(
    command: str, complaint: Complaint, tmp_path: Path
) -> None:
    assert "nowhere" in complaint(command, tmp_path / "nowhere")


def test_an_empty_class_is_named(run: Complaint, own: Path) -> None:
    (own / "triangle").mkdir()
    assert "triangle" in run("--dataset", own)


def test_too_few_images_name_the_class_and_the_way_out(run: Complaint, own: Path) -> None:
    for picture in sorted((own / "cross").iterdir())[2:]:
        picture.unlink()
    line = run("--dataset", own, "--shots", "5")
    assert "cross" in line
    assert "--replace" in line


def test_replace_is_the_way_out(own: Path, tmp_path: Path) -> None:
    for picture in sorted((own / "cross").iterdir())[3:]:
        picture.unlink()
    arguments = ["run", "--out", str(tmp_path), "--dataset", str(own), *SHORT]
    assert main([*arguments, "--shots", "5", "--replace"]) == 0


def test_a_truncated_image_is_named(run: Complaint, own: Path) -> None:
    for picture in (own / "square").iterdir():
        picture.write_bytes(picture.read_bytes()[:300])
    assert re.search(r"square/\d\.png", run("--dataset", own))


def test_a_missing_column_is_named(run: Complaint, texts: Path) -> None:
    line = run("--backbone", "tiny-bert", "--dataset", texts, "--label-column", "lable")
    assert "lable" in line
    assert "text, label" in line


def test_a_loss_that_explodes_is_recorded(run: Complaint, tmp_path: Path) -> None:
    line = run("--method", "full", "--lr", "1e25", "--steps", "4", "--schedule", "constant")
    assert re.search(r"step \d", line)
    assert "1e+25" in line
    (path,) = (tmp_path / "runs").glob("*.json")
    result = read_result(path)
    assert result.run_info.status == "failed"
    assert str(path) in line
    assert result.run_info.error in line


def test_a_checkpoint_of_another_architecture_names_the_keys(
    run: Complaint, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import save_file

    path = tmp_path / "other.safetensors"
    save_file({"layer1.weight": torch.zeros(3, 3)}, path)
    line = run("--checkpoint", path)
    assert "layer1.weight" in line
    assert "missing" in line
    assert "unexpected" in line


def test_an_output_that_cannot_be_written_is_noticed_before_the_work(
    run: Complaint, complaint: Complaint, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        assert f"cannot write {place}" in run("--out", place)
        assert f"cannot write {place}" in complaint("sweep", "--preset", "smoke", "--out", place)
    assert "is a file" in run("--save", tmp_path / "file")
    assert "cannot write" in run("--save", tmp_path / "file" / "below")
    assert not list(tmp_path.glob("runs/*.json"))


def test_a_full_disk_leaves_no_half_result(
    run: Complaint, tmp_path: Path, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    with full_disk(500):
        line = run()
    assert "Choose" in line or "choose" in line
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_save_that_fails_does_not_take_the_result_along(
    run: Complaint, tmp_path: Path, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    with full_disk(20_000):  # enough for the record, not for the weights
        line = run("--method", "full", "--save", tmp_path / "saved")
    (path,) = (tmp_path / "runs").iterdir()
    assert "cannot write" in line
    assert f"recorded in {path}" in line
    assert read_result(path).run_info.status == "completed"


def test_a_damaged_save_is_named(complaint: Complaint, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    assert "run.json is damaged" in complaint("evaluate", tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[defaults]\nstps = 3", "did you mean 'steps'"),
        ("[[grid]]\nmethds = ['so']", "did you mean 'methods'"),
        ("[[grid]]\nmethod = 'so'\nmethods = ['lora']", "twice"),
        ("[[overide]]", "did you mean 'override'"),
        ("[[override]]\nwhen = {metod = 'so'}\nset = {lr = 1.0}", "did you mean 'method'"),
        ("[[override]]\nwhen = {method = 'so'}\nset = {so = {TT = 1}}", "so.T"),
        ("[[override]]\nwhen = {method = 'so'}", "'set' is missing"),
        ("[defaults]\nsteps = 'ten'", "steps"),
        ("not toml", "not valid TOML"),
    ],
)
def test_a_mistake_in_a_preset_is_named(
    content: str, says: str, complaint: Complaint, tmp_path: Path
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(content)
    assert says in complaint("sweep", "--preset", path, "--out", tmp_path)


def test_a_traceback_is_shown_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--method", "laro", "--debug"]) == 2
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.splitlines()[-1].startswith("fewshot: unknown method 'laro'")


def test_an_error_in_the_program_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fewshot_bench import commands

    monkeypatch.setattr(commands, "show_lists", lambda what: 1 / None)
    assert main(["list"]) == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "TypeError" in line
    assert "--debug" in line


def test_ctrl_c_ends_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fewshot_bench import commands

    def interrupted(what: str) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "show_lists", interrupted)
    assert main(["list"]) == 130
    assert capsys.readouterr().err.count("\n") == 1
