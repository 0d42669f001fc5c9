"""GLUE: every task from every form on disk, SO's exact rows, and what wrong files are told."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewshot_data import few_shot, list_datasets, load_spec
from fewshot_data.glue import official_rows, open_source
from fewshot_data.made import make
from fewshot_data.made.glue import LAYOUTS
from fewshot_data.transforms import text_transforms

TASKS = sorted(spec.name for spec in list_datasets() if spec.source == "glue")
SO_ROWS = """1913 795 1455 1390 1359 242 1872 1357 2446 1456 1412 2464 2203 1436 463 2216 2163 761
897 2279 1196 147 1175 2421 1295 638 2208 1752 487 1237 1844 45"""
SO_LABELS = "0 0 1 1 1 0 1 0 1 0 1 1 0 0 1 1 1 1 0 0 0 0 0 0 0 0 0 0 0 0 1 0"


@pytest.fixture(autouse=True)
def no_bars():
    """Writing with the library would draw bars."""
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def opened(name, root):
    return open_source(load_spec(name).at(root), seed=0)


def rte(folder: Path, split: str, rows: list[dict]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{split}.json").write_text(json.dumps(rows), encoding="utf-8")


def rows_of(labels, **texts):
    return [{"sentence1": "a", "sentence2": "b", **texts, "label": label} for label in labels]


@pytest.mark.parametrize("task", TASKS)
def test_every_form_on_disk_gives_the_same_rows(tmp_path, task):
    spec = load_spec(task)
    wanted = None
    for layout in LAYOUTS:
        make(spec, tmp_path / layout, layout=layout)
        before = sorted((tmp_path / layout).rglob("*"))
        raw = opened(task, tmp_path / layout)
        assert sorted((tmp_path / layout).rglob("*")) == before
        found = (list(raw.samples), raw.labels, raw.train_indices, raw.test_indices, raw.names)
        if spec.options.get("highest_score"):  # of which one form has 32 bits, another decimals
            rounded = [{**sample, "score": round(sample["score"], 5)} for sample in found[0]]
            found = (rounded, *found[1:])
        wanted = wanted or found
        assert found == wanted
        assert len(raw.class_names) == spec.classes
        assert (raw.published, len(raw.complaints)) == (False, 2)
    classes = len(set(wanted[1]))
    assert (len(wanted[2]), len(wanted[3])) == (20 * classes, 6 * classes)


def test_the_registry_has_every_task_with_its_own_order_of_classes():
    names = "ax cola mnli mnli-mismatched mrpc qnli qqp rte sst2 stsb wnli"
    assert sorted(names.split()) == TASKS
    assert load_spec("rte").options["labels"] == ["entailment", "not_entailment"]
    assert load_spec("wnli").options["labels"] == ["not_entailment", "entailment"]


def test_the_shuffle_is_that_of_the_specification_and_of_the_library():
    assert official_rows(10, 10) == [5, 6, 0, 7, 3, 2, 4, 9, 1, 8]
    assert official_rows(2490, 32) == [int(row) for row in SO_ROWS.split()]
    library = datasets.Dataset.from_dict({"row": list(range(2490))}).shuffle(seed=42)
    assert library[:32]["row"] == official_rows(2490, 32)


def test_official_rte_is_so_s_32_rows_in_its_order(tmp_path, caplog):
    labels = np.zeros(2490, dtype=int)
    labels[[int(row) for row in SO_ROWS.split()]] = [int(label) for label in SO_LABELS.split()]
    rte(tmp_path / "rte", "train", [{**row, "sentence1": str(at)} for at, row in
                                    enumerate(rows_of(labels.tolist()))])  # fmt: skip
    rte(tmp_path / "rte", "validation", rows_of([0, 1] * 138 + [0]))
    raw = opened("rte", tmp_path)
    assert raw.published
    assert raw.official is not None
    drawn = raw.official(32, 1)
    assert drawn == raw.official(32, 7) == [int(row) for row in SO_ROWS.split()]
    assert [raw.samples[at][0] for at in drawn] == SO_ROWS.split()
    assert [raw.labels[at] for at in drawn] == [int(label) for label in SO_LABELS.split()]
    assert [raw.labels[at] for at in drawn].count(0) == 20
    assert raw.official(-1, 1) == list(range(2490))
    assert len(raw.test_indices) == 277
    data = few_shot("rte", 32, seed=1, protocol="official", root=tmp_path)
    assert [first for first, _ in (item["text"] for item in data.train)] == SO_ROWS.split()
    assert (len(data.test), data.val, data.protocol) == (277, None, "official")
    assert caplog.text == ""


def test_official_rows_of_another_copy_are_warned_about(tmp_path, caplog):
    make(load_spec("rte"), tmp_path)
    raw = opened("rte", tmp_path)
    assert len(raw.official(32, 1)) == 32
    assert "'rte': the 32 official rows have other labels than the published ones" in caplog.text


@pytest.mark.parametrize("shots", [0, 1, 16, 33])
def test_official_refuses_shots_per_class(tmp_path, shots):
    make(load_spec("rte"), tmp_path)
    with pytest.raises(ValueError, match=r"shots=32 \(rows in all.*use protocol 'nested'"):
        opened("rte", tmp_path).official(shots, 1)


def test_a_copy_of_another_size_is_told_of_and_refused_where_strictness_is_asked_for(
    tmp_path, caplog
):
    make(load_spec("rte"), tmp_path)
    few_shot("rte", 1, seed=0, root=tmp_path)
    assert "'rte': the train split has 40 samples instead of 2490" in caplog.text
    with pytest.raises(ValueError, match=r"40 samples instead of 2490.*strict=True"):
        few_shot("rte", 1, seed=0, root=tmp_path, strict=True)


def test_the_balanced_set_is_sixteen_of_each_class_and_another_one(tmp_path):
    make(load_spec("rte"), tmp_path)
    data = few_shot("rte", 16, seed=42, root=tmp_path)
    labels = [item["label"].item() for item in data.train]
    assert (labels.count(0), labels.count(1)) == (16, 16)
    assert set(data.train.indices) != set(opened("rte", tmp_path).official(32, 42))


def test_what_the_library_writes_and_reads_is_what_is_read_here(tmp_path):
    spec = load_spec("rte")
    saved = make(spec, tmp_path / "saved", layout="saved")
    raw = opened("rte", tmp_path / "saved")
    library = datasets.load_from_disk(str(saved))
    assert [raw.samples[at] for at in raw.train_indices] == list(
        zip(library["train"]["sentence1"], library["train"]["sentence2"], strict=True)
    )
    assert library["train"].features["label"].names == list(raw.class_names)
    library["train"].to_parquet(tmp_path / "rte" / "train-00000-of-00001.parquet")
    library["validation"].save_to_disk(str(tmp_path / "rte" / "validation"), num_shards=3)
    mixed = opened("rte", tmp_path)
    assert (list(mixed.samples), mixed.labels) == (list(raw.samples), raw.labels)


def test_classes_in_another_order_are_mapped_by_name(tmp_path):
    features = datasets.Features(
        {
            "sentence1": datasets.Value("string"),
            "sentence2": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["not_entailment", "entailment"]),
        }
    )
    rows = {"sentence1": ["a", "b"], "sentence2": ["c", "d"], "label": [0, 1]}
    for split in ("train", "validation"):
        table = datasets.Dataset.from_dict(rows, features=features)
        table.to_parquet(tmp_path / "rte" / f"{split}.parquet")
    assert opened("rte", tmp_path).labels == [1, 0, 1, 0]
    other = features.copy()
    other["label"] = datasets.ClassLabel(names=["no", "yes"])
    datasets.Dataset.from_dict(rows, features=other).to_parquet(tmp_path / "rte/train.parquet")
    with pytest.raises(ValueError, match="has the classes no, yes, but they should be entailment"):
        opened("rte", tmp_path)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_hidden_labels_are_refused(tmp_path, split):
    rte(tmp_path / "rte", "train", rows_of([0, 1]))
    rte(tmp_path / "rte", "validation", rows_of([0, 1]))
    rte(tmp_path / "rte", split, rows_of([-1, -1]))
    with pytest.raises(ValueError, match=rf"labels of '.*{split}\.json' are hidden \(-1\)"):
        opened("rte", tmp_path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (rows_of([0, 2]), r"row 2 of .*has the label 2: known are entailment, not_entailment"),
        (rows_of([0, "maybe"]), r"row 2 of .*has the label 'maybe'"),
        (rows_of([0, None]), r"row 2 of .*has the label None"),
        (rows_of([0, True]), r"row 2 of .*has the label True"),
        (rows_of([0], sentence2=None), "row 1 of .* has no text: column 'sentence2' is empty"),
        (rows_of([0], sentence1=3), "row 1 of .* has no text: column 'sentence1' is 3"),
        ([{"sentence1": "a", "label": 0}], "lacks columns sentence1, sentence2: it has sentence1"),
        ([{"sentence1": "a", "sentence2": "b"}], "lacks columns label"),
        ([], "lacks columns"),
    ],
)
def test_rows_that_are_not_of_the_task_are_named(tmp_path, rows, message):
    rte(tmp_path / "rte", "train", rows)
    rte(tmp_path / "rte", "validation", rows_of([0, 1]))
    with pytest.raises(ValueError, match=message):
        opened("rte", tmp_path)


def test_labels_may_be_words_digits_or_numbers(tmp_path):
    rte(tmp_path / "rte", "train", rows_of(["entailment", "1", 0, 1.0]))
    rte(tmp_path / "rte", "validation", rows_of(["not_entailment"]))
    assert opened("rte", tmp_path).labels == [0, 1, 0, 1, 1]


def test_a_file_of_the_split_s_own_name_wins_over_one_with_something_before_it(tmp_path):
    rte(tmp_path / "rte", "a-train", rows_of([0, 1], sentence1="other"))
    rte(tmp_path / "rte", "validation", rows_of([0, 1]))
    assert opened("rte", tmp_path).samples[0] == ("other", "b")
    rte(tmp_path / "rte", "train", rows_of([0, 1]))
    assert opened("rte", tmp_path).samples[0] == ("a", "b")


def test_missing_parts_of_a_split_are_named_together(tmp_path):
    folder = make(load_spec("rte"), tmp_path, layout="parquet")
    (folder / "train-00000-of-00001.parquet").rename(folder / "train-00001-of-00003.parquet")
    with pytest.raises(
        FileNotFoundError, match=r"2 of 3 files are missing .*00000-of-00003.*00002"
    ):
        opened("rte", tmp_path)


def test_a_broken_list_of_saved_files_is_refused(tmp_path):
    folder = make(load_spec("rte"), tmp_path, layout="saved")
    state = folder / "train" / "state.json"
    for entry, message in (("../x.arrow", "outside its folder"), ("/x.arrow", "outside")):
        state.write_text(json.dumps({"_data_files": [{"filename": entry}]}))
        with pytest.raises(ValueError, match=message):
            opened("rte", tmp_path)
    state.write_text("{}")
    with pytest.raises(ValueError, match="should list '_data_files'"):
        opened("rte", tmp_path)


def test_tsv_rows_without_all_fields_are_left_out_and_counted(tmp_path, caplog):
    folder = make(load_spec("qqp"), tmp_path, layout="tsv")
    with (folder / "train.tsv").open("a", encoding="utf-8") as file:
        file.write("40\tonly one question\n41\tone\ttwo\t\n")
    assert len(opened("qqp", tmp_path).train_indices) == 40
    assert "2 rows of" in caplog.text


def test_a_carriage_return_before_the_line_end_is_no_part_of_a_label(tmp_path):
    folder = make(load_spec("rte"), tmp_path, layout="tsv")
    wanted = opened("rte", tmp_path).labels
    for path in folder.glob("*.tsv"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert opened("rte", tmp_path).labels == wanted


def test_scores_come_with_every_item_and_in_batches(tmp_path):
    make(load_spec("stsb"), tmp_path)

    def tokenizer(first, second):
        size = len(first) + len(second)
        return {"input_ids": [1] * size, "attention_mask": [1] * size}

    data = few_shot("stsb", 2, seed=0, root=tmp_path, transform=text_transforms(tokenizer))
    batch = next(data.test_batches(7))
    assert batch["score"].tolist() == [pytest.approx(n or 0.4) for n in (0, 1, 2, 3, 4, 5, 0)]
    assert (batch["score"].dtype, batch["label"].tolist()) == (torch.float32, [*range(6), 0])


def test_the_diagnostic_set_needs_labels_and_takes_its_shots_from_mnli(tmp_path, caplog):
    folder = make(load_spec("ax"), tmp_path, layout="jsonl")
    assert len(few_shot("ax", 2, seed=0, root=tmp_path).train) == 6
    shutil.rmtree(tmp_path / "mnli")
    assert len(few_shot("ax", 0, seed=0, root=tmp_path).test) == 18
    assert "'ax' has no training rows: 'mnli' is not there" in caplog.text
    lines = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
    hidden = [json.dumps({**line, "label": -1}) for line in lines]
    (folder / "test.jsonl").write_text("\n".join(hidden))
    with pytest.raises(ValueError, match=r"hidden \(-1\).*gluebenchmark\.com/diagnostics"):
        opened("ax", tmp_path)


def test_without_a_root_the_library_s_cache_is_searched(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("HF_DATASETS_CACHE", "HF_HUB_CACHE", "FEWSHOT_DATA_ROOT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(FileNotFoundError, match=r"in no cache.*hf/datasets.*give root="):
        few_shot("rte", 1, seed=0)
    make(load_spec("rte"), tmp_path / "hf" / "datasets", layout="cache")
    assert len(few_shot("rte", 1, seed=0).test) == 12
    snapshot = tmp_path / "hf/hub/datasets--nyu-mll--glue/snapshots/0a1b"
    make(load_spec("cola"), snapshot, layout="parquet")
    assert len(few_shot("cola", 1, seed=0).test) == 12


def test_a_missing_split_to_evaluate_on_is_named(tmp_path):
    rte(tmp_path / "rte", "train", rows_of([0, 1]))
    with pytest.raises(FileNotFoundError, match="validation"):
        opened("rte", tmp_path)


@pytest.mark.parametrize("absent", ["datasets", "pyarrow"])
def test_no_form_needs_the_library_and_a_folder_of_that_name_is_no_harm(tmp_path, absent):
    arrow = ("parquet", "saved", "cache")
    layouts = [name for name in LAYOUTS if (name in arrow) == (absent == "datasets")]
    for layout in layouts:
        make(load_spec("rte"), tmp_path / layout, layout=layout)
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").write_text("raise RuntimeError('the wrong one')")
    block = "sys.modules['pyarrow'] = None; " if absent == "pyarrow" else ""
    code = (
        f"import sys; {block}from fewshot_data import few_shot; "
        f"print({{len(few_shot('rte', 2, seed=0, root=name).train) for name in {layouts}}}, "
        "'datasets' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert (done.stdout.strip(), done.returncode) == ("{4} False", 0), done.stderr


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(LAYOUTS), st.integers(0, 10), st.data())
def test_mutated_files_are_read_or_refused_never_crash(tmp_path, layout, which, data):
    root = tmp_path / "original" / layout
    if not root.exists():
        make(load_spec("rte"), root, layout=layout)
    shutil.rmtree(tmp_path / "copy", ignore_errors=True)
    shutil.copytree(root, tmp_path / "copy")
    files = sorted(path for path in (tmp_path / "copy").rglob("*") if path.is_file())
    path = files[which % len(files)]
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(0, len(content) - 1)))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    path.write_bytes(content)
    try:
        raw = opened("rte", tmp_path / "copy")
        outcome = len(list(raw.samples)) == len(raw.labels)
    except (ValueError, FileNotFoundError) as error:
        outcome = "rte" in str(error) or "copy" in str(error)
    assert outcome
