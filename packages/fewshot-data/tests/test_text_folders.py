"""One's own texts in folders of splits, saved by the library, and as sentence pairs."""

import json
import logging

import datasets
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewshot_data import few_shot, load_spec
from fewshot_data.table import open_source

COLUMNS = {"text": [f"text {row}" for row in range(12)], "label": [row % 2 for row in range(12)]}
WRITERS = {
    "csv": lambda rows, path: rows.to_csv(path, index=False),
    "tsv": lambda rows, path: rows.to_csv(path, index=False, sep="\t"),
    "json": lambda rows, path: path.write_text(json.dumps(rows.to_list())),
    "jsonl": lambda rows, path: rows.to_json(path),
    "parquet": lambda rows, path: rows.to_parquet(path),
}


@pytest.fixture(autouse=True)
def no_bars():
    """Writing with the library would draw bars."""
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def table(start=0, stop=12, **columns):
    rows = {**COLUMNS, **columns}
    return datasets.Dataset.from_dict({name: values[start:stop] for name, values in rows.items()})


def opened(path, **columns):
    return open_source(few_shot(path, 0, seed=0, **columns).spec, seed=0)


def test_a_saved_dict_of_splits_is_opened_with_its_splits(tmp_path):
    splits = {"train": table(0, 6), "validation": table(6, 8), "test": table(8, 12)}
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "mine"))
    raw = opened(tmp_path / "mine")
    assert (raw.train_indices, raw.val_indices) == (list(range(6)), [6, 7])
    assert (raw.test_indices, list(raw.samples)) == ([8, 9, 10, 11], COLUMNS["text"])
    assert raw.names[6:8] == ["validation/0", "validation/1"]
    assert few_shot(tmp_path / "mine", 1, seed=0).spec.name == "mine"


def test_a_saved_table_gets_a_share_put_aside(tmp_path):
    table().save_to_disk(str(tmp_path / "mine"), num_shards=2)
    raw = opened(tmp_path / "mine")
    assert list(raw.samples) == COLUMNS["text"]
    assert len(raw.test_indices) == 2


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("other", ["test", "dev", "validation"])
def test_a_folder_of_split_files_is_opened(tmp_path, suffix, other):
    WRITERS[suffix](table(0, 8), tmp_path / f"train.{suffix}")
    WRITERS[suffix](table(8, 12), tmp_path / f"{other}.{suffix}")
    raw = opened(tmp_path)
    assert (raw.train_indices, raw.test_indices) == (list(range(8)), [8, 9, 10, 11])
    assert list(raw.samples) == COLUMNS["text"]
    assert raw.val_indices == []


def test_parts_in_a_data_folder_are_opened(tmp_path):
    (tmp_path / "data").mkdir()
    for part in range(2):
        file = tmp_path / "data" / f"train-0000{part}-of-00002.parquet"
        table(6 * part, 6 * part + 6).to_parquet(file)
    assert list(opened(tmp_path).samples) == COLUMNS["text"]


@pytest.mark.parametrize("columns", [{"label": [-1] * 12}, {"label": [None] * 12}])
def test_a_test_split_without_labels_is_left_out(tmp_path, columns, caplog):
    splits = {"train": table(0, 6), "validation": table(6, 8), "test": table(8, 12, **columns)}
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "mine"))
    with caplog.at_level(logging.WARNING, logger="fewshot_data"):
        raw = opened(tmp_path / "mine")
    assert (raw.test_indices, raw.val_indices, len(raw.samples)) == ([6, 7], [], 8)
    assert "the test split of" in caplog.text


def test_stored_class_names_hold_for_all_splits(tmp_path):
    names = datasets.ClassLabel(names=["yes", "no", "never"])
    for split, start in (("train", 0), ("test", 6)):
        rows = table(start, start + 6).cast_column("label", names)
        rows.to_parquet(tmp_path / f"{split}.parquet")
    assert opened(tmp_path).class_names == ("yes", "no", "never")
    rows.cast_column("label", datasets.ClassLabel(names=["no", "yes"])).to_parquet(
        tmp_path / "test.parquet"
    )
    mixed = opened(tmp_path)
    assert mixed.class_names == ("no", "yes")
    assert mixed.labels == [1, 0] * 3 + [0, 1] * 3


@pytest.mark.parametrize("first", ["sentence1", "premise", "question1"])
def test_usual_pairs_of_columns_are_found(tmp_path, first):
    second = {"sentence1": "sentence2", "premise": "hypothesis", "question1": "question2"}[first]
    columns = {first: COLUMNS["text"], second: ["b"] * 12, "label": COLUMNS["label"]}
    datasets.Dataset.from_dict(columns).to_csv(tmp_path / "a.csv", index=False)
    assert opened(tmp_path / "a.csv").samples[3] == ("text 3", "b")


@pytest.mark.parametrize("wanted", ["body,reply", "Body, Reply", ("body", "reply")])
def test_pairs_are_asked_for_by_two_columns(tmp_path, wanted):
    rows = table(body=COLUMNS["text"], reply=["b"] * 12)
    rows.to_json(tmp_path / "a.jsonl")
    assert opened(tmp_path / "a.jsonl", text_column=wanted).samples[3] == ("text 3", "b")
    with pytest.raises(ValueError, match="text_column is 'a,b,c': name one column, or two"):
        opened(tmp_path / "a.jsonl", text_column="a,b,c")
    with pytest.raises(ValueError, match="no column 'nope'"):
        opened(tmp_path / "a.jsonl", text_column="text,nope")


def test_a_column_with_a_comma_in_its_name_is_one_column(tmp_path):
    table(**{"a,b": COLUMNS["text"]}).to_json(tmp_path / "a.jsonl")
    assert opened(tmp_path / "a.jsonl", text_column="a,b").samples[0] == "text 0"


def test_folders_of_images_stay_folders_of_images(image_folder):
    root = image_folder({"train/cat": 3, "train/dog": 3, "test/cat": 2, "test/dog": 2})
    (root / "train.csv").write_text("text,label\na,b\n")
    assert load_spec(root).source == "folder"
    root = image_folder({"cat": 3, "dog": 3}, root="other")
    (root / "train.json").write_text("{}")
    assert load_spec(root).source == "folder"


def test_a_folder_without_a_training_split_says_what_was_looked_for(tmp_path):
    (tmp_path / "dataset_dict.json").write_text('{"splits": []}')
    with pytest.raises(FileNotFoundError, match=r"no training split in .*train\.csv.*found none"):
        few_shot(tmp_path, 1, seed=0)


def test_a_split_that_lacks_a_column_is_named(tmp_path):
    table().to_csv(tmp_path / "train.csv", index=False)
    table().rename_column("text", "words").to_csv(tmp_path / "test.csv", index=False)
    with pytest.raises(ValueError, match=r"the test split of '.*' has no column 'text'"):
        few_shot(tmp_path, 1, seed=0)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([*WRITERS, "arrow"]), st.binary(max_size=60), st.booleans())
def test_random_bytes_are_refused_with_the_file_named(tmp_path, suffix, content, saved):
    for path in tmp_path.glob("*"):
        path.unlink()
    if saved:
        (tmp_path / "state.json").write_bytes(content)
    (tmp_path / f"train.{suffix}").write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=tmp_path.name):
        few_shot(tmp_path, 1, seed=0)
