import json
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot_bench.atomic import write_folder, write_text
from fewshot_bench.environment import describe
from fewshot_bench.results import RunResult, read_result, write_result


def test_a_result_survives_its_file(result, tmp_path):
    path = write_result(result, tmp_path / "deep" / "run.json")
    assert read_result(path) == result
    assert list(json.loads(path.read_text())) == [
        "schema_version", "run_info", "train_info", "meta_info", "digest",
    ]  # fmt: skip


def test_a_changed_digit_is_noticed(result, tmp_path):
    path = write_result(result, tmp_path / "run.json")
    text = path.read_text()
    path.write_text(text.replace('"total_time_s": ', '"total_time_s": 1'))
    with pytest.raises(ValueError, match="was changed after it was written"):
        read_result(path)
    table = json.loads(text)
    del table["digest"]  # files from before there were digests
    path.write_text(json.dumps(table))
    assert read_result(path) == result


def test_the_keys_are_those_that_were_agreed(result):
    table = result.to_dict()
    assert set(table["run_info"]) == {
        "name", "created_at", "total_time_s", "status", "error", "config", "seeds",
    }  # fmt: skip
    assert set(table["run_info"]["seeds"]) == {"split", "init", "support", "order"}
    assert set(table["train_info"]) == {
        "accuracy", "correct", "count", "error", "loss", "step_time_s", "peak_memory_bytes",
        "gradient_bytes", "optimizer_state_bytes", "trainable_parameters", "total_parameters",
        "changed_parameters", "adapter_bytes", "metric", "score", "selected_step",
    }  # fmt: skip
    assert set(table["train_info"]["step_time_s"]) == {
        "median", "q25", "q75", "warmup_steps", "measured_steps",
    }  # fmt: skip
    assert set(table["meta_info"]) == {
        "packages", "git_revision", "git_dirty", "device", "python", "platform", "threads",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON"),
        (b'{"schema_version": 1,', "not valid JSON"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"schema_version": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b"[]", "schema_version is None"),
        (b'{"schema_version": 2}', "schema_version is 2, this version reads 1"),
        (b'{"schema_version": 1}', "field 'run_info' is missing"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_result(path)
    assert str(path) in str(caught.value)


@given(part=st.sampled_from(["run_info", "train_info", "meta_info"]), data=st.data())
def test_an_unknown_or_mistyped_field_is_refused(result, part, data):
    table = result.to_dict()
    key = data.draw(st.sampled_from(sorted(table[part])) | st.text())
    known, before = key in table[part], table[part].get(key)
    table[part][key] = {"no": "such thing"}
    if part == "meta_info" and key == "packages":  # free names: any table of texts is valid
        assert RunResult.from_dict(table).meta_info.packages == {"no": "such thing"}
        return
    with pytest.raises(ValueError, match=part) as caught:
        RunResult.from_dict(table)
    assert repr(key) in str(caught.value) or key in str(caught.value)
    if known:
        table[part][key] = before
        assert RunResult.from_dict(table).to_dict() == result.to_dict()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_full_disk_loses_nothing(result, tmp_path, full_disk):
    path = write_result(result, tmp_path / "run.json")
    before = path.read_bytes()
    with full_disk(100), pytest.raises(OSError, match="nothing that was there is lost") as caught:
        write_result(result, path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert names(tmp_path) == ["run.json"]


def test_a_folder_that_cannot_be_made_is_named(result, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write .*run.json: Not a directory"):
        write_result(result, tmp_path / "file" / "runs" / "run.json")


def test_a_failed_rename_leaves_no_temporary_file(result, tmp_path):
    (tmp_path / "run.json").mkdir()  # a file cannot be renamed over a folder
    with pytest.raises(OSError, match=r"cannot write .*run.json"):
        write_result(result, tmp_path / "run.json")
    assert names(tmp_path) == ["run.json"]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "saved"
    write_folder(folder, lambda new: write_text(new / "a", "old") and None)

    def half(new):
        write_text(new / "a", "new")
        raise OSError("No space left on device")

    with pytest.raises(OSError, match=r"cannot write .*saved: No space left"):
        write_folder(folder, half)
    assert (folder / "a").read_text() == "old"
    write_folder(folder, lambda new: write_text(new / "b", "new") and None)
    assert names(folder) == ["b"]
    assert names(tmp_path) == ["saved"]


def test_the_environment_names_packages_and_revision(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outside = describe("cpu", 1)
    assert (outside.git_revision, outside.git_dirty) == (None, None)
    assert {"so-optim", "snell-layers", "fewshot-data", "vision-backbones", "torch", "peft"} < set(
        outside.packages
    )
    assert outside.device


@pytest.mark.parametrize("dirty", [False, True])
def test_the_environment_tells_a_changed_repository(tmp_path, monkeypatch, dirty):
    def git(*arguments):
        who = ["-c", "user.name=n", "-c", "user.email=n@example.org"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q")
    (tmp_path / "tracked").write_text("1")
    git("add", "tracked")
    git("commit", "-qm", "one")
    (tmp_path / "untracked").write_text("")
    (tmp_path / "tracked").write_text("2" if dirty else "1")
    monkeypatch.chdir(tmp_path)
    described = describe("cpu", 1)
    assert re.fullmatch("[0-9a-f]{40}", described.git_revision)
    assert described.git_dirty is dirty


def test_reading_results_costs_no_torch():
    code = "import sys, fewshot_bench.results; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "error", "-c", code], check=False).returncode == 0
