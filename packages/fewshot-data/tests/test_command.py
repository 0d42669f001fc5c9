"""The command `fewshot-data`, typed as people do; and the report behind `check`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewshot_data import list_datasets, load_spec
from fewshot_data.check import check_dataset
from fewshot_data.command import main
from fewshot_data.made import MAKERS, make

ON_DISK = [spec.name for spec in list_datasets() if spec.source in MAKERS]


@pytest.fixture
def say(capsys):
    """Type a command; get its exit code, output and complaints."""

    def type_(*words):
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return type_


@pytest.mark.parametrize("name", ON_DISK)
def test_every_dataset_on_disk_is_checked(name, tmp_path):
    make(load_spec(name), tmp_path)
    report = check_dataset(load_spec(name), tmp_path, decode=3)
    assert report.ok(), report
    assert not report.ok(strict=True)  # a made-up copy is not the published data
    assert report.complaints or not report.published
    json.dumps(vars(report))


@pytest.mark.parametrize("spec", list_datasets(), ids=lambda spec: spec.name)
def test_every_dataset_is_shown(spec, say):
    code, shown, _ = say("show", spec.name)
    assert code == 0
    for fact in (spec.title, spec.licence, *spec.homes, *spec.aliases):
        assert fact in shown


def test_lists(say, tmp_path):
    code, shown, _ = say("list")
    assert code == 0
    assert all(f"\n{spec.name} " in shown for spec in list_datasets())
    assert "\nrte " not in say("list", "clip")[1]
    make(load_spec("dtd"), tmp_path)
    lines = say("list", "clip", "--root", tmp_path)[1].splitlines()
    there = {line.split()[0]: line.split()[1] for line in lines[1:]}
    assert [name for name, found in there.items() if found == "yes"] == ["dtd"]


def test_a_stuck_user_is_told_what_is_missing(say, tmp_path):
    folder = make(load_spec("dtd"), tmp_path)
    code, shown, _ = say("check", "dtd", "--root", tmp_path, "--decode", "all")
    assert code == 0
    assert "decoded: 40 images, 0 unreadable" in shown
    assert "classes: 4 (published: 47)" in shown
    assert say("check", "dtd", "--root", tmp_path, "--strict")[0] == 1

    broken = sorted((folder / "images").rglob("*.jpg"))[:2]
    broken[0].write_bytes(broken[0].read_bytes()[:300])
    broken[1].write_text("not an image")
    code, shown, _ = say("check", "dtd", "--root", tmp_path, "--decode", "all")
    assert code == 1
    assert all(f"cannot read image '{path}'" in shown for path in broken)

    (folder / "split_fewshot").mkdir()
    (folder / "split_fewshot" / "shot_1-seed_1.pkl").write_bytes(b"")
    assert "ignored cache" in say("check", "dtd", "--root", tmp_path)[1]

    broken[0].unlink()
    code, shown, _ = say("check", "dtd", "--root", tmp_path)
    assert code == 1
    assert f"1 of 40 listed files are missing: {broken[0]}" in shown


def test_a_group_or_all_that_is_there_is_checked_at_once(say, tmp_path):
    for name in ("dtd", "eurosat"):
        make(load_spec(name), tmp_path)
    code, shown, _ = say("check", "clip", "--root", tmp_path, "--json")
    assert code == 0
    assert [report["name"] for report in json.loads(shown)] == ["dtd", "eurosat"]
    assert "nothing of 'glue'" in say("check", "glue", "--root", tmp_path)[2]


def test_label_order_is_compared_where_it_is_known(tmp_path):
    spec = load_spec("food101")
    assert spec.class_names
    folder = make(spec, tmp_path)
    table = {"train": [], "val": [], "test": []}
    for label, name in enumerate(reversed(spec.class_names)):
        table["train"].append([f"{name}/1.jpg", label, name])
        path = folder / "images" / name / "1.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(next((folder / "images").rglob("*.jpg")).read_bytes())
    (folder / "split_zhou_Food101.json").write_text(json.dumps(table))
    report = check_dataset(spec, tmp_path)
    assert any("the order differs" in complaint for complaint in report.complaints)


def test_a_draw_is_printed_or_written(say, tmp_path):
    make(load_spec("dtd"), tmp_path)
    words = ("sample", "dtd", "--root", tmp_path, "--shots", 2, "--seed", 3, "--protocol", "coop")
    code, shown, _ = say(*words)
    assert (code, len(shown.splitlines())) == (0, 8)
    out = tmp_path / "out" / "split.json"
    assert str(out) in say(*words, "--out", out)[1]
    table = json.loads(out.read_text())
    assert [f"{label}\t{name}\t{path}" for path, label, name in table["train"]] == (
        shown.splitlines()
    )
    assert table["meta"]["protocol"] == "coop"
    assert len(json.loads(out.read_text())["val"]) == 8


def test_splits_are_made_only_when_asked_for(say, tmp_path):
    folder = make(load_spec("dtd"), tmp_path, layout="original")
    code, shown, _ = say("split", "dtd", "--root", tmp_path)
    assert code == 0
    assert "NOT the published split" in shown
    assert (folder / "split_fewshot_data_dtd.json").is_file()
    assert "NOT the published splits" in say("check", "dtd", "--root", tmp_path)[1]
    assert "needs no split file" in say("split", "fgvc", "--root", tmp_path)[2]


def test_published_draws_are_made_again(say, tmp_path):
    make(load_spec("dtd"), tmp_path)
    code, shown, _ = say("verify", "dtd", "--root", tmp_path)
    assert code == 1
    assert "0 of 12 published draws made again" in shown
    assert "no published draws of 'rte'" in say("verify", "rte", "--root", tmp_path)[2]


def test_copies_are_made(say, tmp_path):
    code, shown, _ = say("make", "rte", "--out", tmp_path, "--layout", "tsv")
    assert code == 0
    assert Path(shown.split(": ")[1].strip()).is_dir()


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["chek"], "did you mean 'check'"),
        (["show", "digtis"], "did you mean 'digits'"),
        (["check", "dtd"], "no root was given"),
        (["check", "dtd", "--decode", "some"], "--decode is 'some'"),
        (["sample", "digits"], "--shots"),
        (["sample", "digits", "--shots", "x"], "--shots"),
        (["sample", "digits", "--shots", "1", "--protocol", "coup"], "--protocol"),
        (["make", "digits", "--out", "x"], "no copy of 'digits'"),
        (["make", "dtd", "--out", "x", "--layout", "zip"], "unknown layout 'zip'"),
        (["download", "fgvc-cub", "--root", "x"], "no download for 'fgvc-cub'"),
        (["download", "dtd"], "--root is missing"),
        (["list", "clap"], "invalid choice: 'clap'"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(say, words, match, monkeypatch, tmp_path):
    monkeypatch.delenv("FEWSHOT_DATA_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    code, shown, complaint = say(*words)
    if words[0] == "check" and "--decode" not in words:
        assert (code, match in shown) == (1, True)
        return
    assert code == 2
    assert complaint.count("\n") == 1
    assert complaint.startswith("fewshot-data: ")
    assert match in complaint


@pytest.mark.parametrize("name", ["", "list", "show", "check", "sample", "verify", "split", "make"])
def test_help_answers(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*([name] if name else []), "--help"])
    assert ended.value.code == 0
    assert "usage: fewshot-data" in capsys.readouterr().out


def test_the_installed_command_and_the_module_are_the_same():
    said = [
        subprocess.run([*command, "show", "dtd"], capture_output=True, text=True, check=True).stdout
        for command in (
            [Path(sys.executable).with_name("fewshot-data")],
            [sys.executable, "-m", "fewshot_data"],
        )
    ]
    assert said[0] == said[1] != ""


@given(st.binary(max_size=60), st.sampled_from(["dtd", "fgvc", "vtab-dtd", "fgvc-cub", "rte"]))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_random_bytes_in_any_list_are_reported_and_not_raised(tmp_path, content, name):
    spec, root = load_spec(name), tmp_path / name
    if not root.exists():
        make(spec, root)
    files = sorted(p for p in root.rglob("*") if p.suffix in (".json", ".txt", ".parquet"))
    files[len(content) % len(files)].write_bytes(content)
    report = check_dataset(spec, root)
    assert report.error or report.counts
