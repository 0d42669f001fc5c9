"""One's own texts: file formats, columns, labels, and every mistake that a file can hold."""

import json
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewshot_data import few_shot, load_spec
from fewshot_data.table import open_source

WRITERS: dict[str, Callable[[datasets.Dataset, Path], object]] = {
    ".csv": lambda rows, path: rows.to_csv(path, index=False),
    ".tsv": lambda rows, path: rows.to_csv(path, index=False, sep="\t"),
    ".json": lambda rows, path: path.write_text(json.dumps(rows.to_list())),
    ".jsonl": lambda rows, path: rows.to_json(path),
    ".parquet": lambda rows, path: rows.to_parquet(path),
    ".PARQUET": lambda rows, path: rows.to_parquet(path),
}


@pytest.fixture(autouse=True)
def no_bars():
    """Writing the files would draw bars."""
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def open_file(path, **columns):
    data = few_shot(path, 1, seed=0, **columns)
    return open_source(data.spec, seed=0)


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("whole_numbers", [False, True])
def test_every_format_gives_the_same_texts(tmp_path, moods, suffix, whole_numbers):
    texts = [text for text, _ in moods]
    labels = [(10 if label == "good" else 2) if whole_numbers else label for _, label in moods]
    path = tmp_path / f"moods{suffix}"
    WRITERS[suffix](datasets.Dataset.from_dict({"text": texts, "label": labels}), path)
    raw = open_file(path)
    assert raw.class_names == (("2", "10") if whole_numbers else ("bad", "good"))
    assert list(raw.samples) == texts
    assert [raw.class_names[label] for label in raw.labels] == [str(label) for label in labels]
    assert sorted(raw.train_indices + raw.test_indices) == list(range(16))


def test_stored_class_names_are_used(tmp_path):
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["yes", "no"])}
    )
    rows = {"text": list("abcd"), "label": [0, 1, 1, 0]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "a.parquet")
    raw = open_file(tmp_path / "a.parquet")
    assert (raw.class_names, raw.labels) == (("yes", "no"), [0, 1, 1, 0])


def test_words_that_look_like_gaps_or_numbers_stay_texts(text_file):
    texts = ["NA", "null", "2020", "1e3", "True", "nan"]
    path = text_file([(text, number % 2) for number, text in enumerate(texts)])
    assert list(open_file(path).samples) == texts


def test_a_byte_order_mark_and_other_columns_do_not_matter(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("\ufefftext,id,label\nä,1,x\nb,2,y\nc,3,x\nd,4,y\n".encode())
    assert list(open_file(path).samples) == ["ä", "b", "c", "d"]


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        (("Sentence", "Category"), {}),
        (("review", "target"), {}),
        (("premise", "label"), {"text_column": "premise"}),
        (("text", "verdict"), {"label_column": "verdict"}),
        (("Title", "Kind"), {"text_column": "title", "label_column": "kind"}),
    ],
)
def test_columns_are_found_by_usual_names_or_by_request(text_file, moods, header, columns):
    assert len(open_file(text_file(moods, header), **columns).samples) == 16


@pytest.mark.parametrize("missing", ["text", "label"])
def test_a_missing_column_lists_the_columns_and_names_the_option(text_file, moods, missing):
    header = tuple("stuff" if name == missing else name for name in ("text", "label"))
    wanted = (
        rf"no {missing} column.*columns are {', '.join(header)};.*{missing}_column.*--{missing}"
    )
    with pytest.raises(ValueError, match=wanted):
        few_shot(text_file(moods, header), 1, seed=0)
    with pytest.raises(ValueError, match=r"no column 'nope' in .*columns are"):
        few_shot(text_file(moods, header), 1, seed=0, **{f"{missing}_column": "nope"})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", "x"), ("", "y")], r"row 2 of .* has no text: column 'text' is empty"),
        ([("a", ""), ("b", "y")], r"row 1 of .* has no label: column 'label' is empty"),
        ([("a", "x"), ("b", "x")], "one class only"),
        ([("a", "x"), ("b", "x"), ("c", "y")], r"class 'y' has 1 sample"),
        ([], "has no rows"),
    ],
)
def test_rows_that_cannot_be_used_are_named(text_file, rows, message):
    with pytest.raises(ValueError, match=message):
        few_shot(text_file(rows), 1, seed=0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": 3, "label": 0}], "has no text: column 'text' is 3"),
        ([{"text": "a", "label": 0.5}], r"column 'label' is 0\.5 there, and labels are words"),
        ([{"text": ["a"], "label": 0}], "has no text"),
        ([{"text": "a", "label": None}], "column 'label' is empty"),
    ],
)
def test_values_of_the_wrong_kind_are_named(tmp_path, rows, message):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.raises(ValueError, match=message):
        few_shot(path, 1, seed=0)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([".csv", ".tsv", ".json", ".jsonl", ".parquet"]), st.binary(max_size=60))
def test_random_bytes_are_refused_with_the_file_named(tmp_path, capfd, suffix, content):
    path = tmp_path / f"noise{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="noise"):
        few_shot(path, 1, seed=0)
    assert capfd.readouterr() == ("", "")


def test_a_file_that_vanished_is_named(text_file, moods):
    spec = load_spec(text_file(moods))
    Path(spec.options["path"]).unlink()
    with pytest.raises(FileNotFoundError, match=r"no text file '.*data\.csv'"):
        open_source(spec, seed=0)


def test_nothing_is_written_beside_the_file_nor_into_the_home(
    text_file, moods, tmp_path, monkeypatch
):
    path = text_file(moods)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    before = sorted(tmp_path.rglob("*"))
    few_shot(path, 2, seed=0)
    assert sorted(tmp_path.rglob("*")) == before


def test_columns_are_refused_for_images(image_folder):
    root = image_folder({"cat": 3, "dog": 3})
    with pytest.raises(ValueError, match=r"text_column='body' names a column.*source 'folder'"):
        few_shot(root, 1, seed=0, text_column="body")


def test_the_progress_bar_setting_of_the_library_is_restored(text_file, moods):
    path = text_file(moods)
    datasets.enable_progress_bars()
    level = datasets.logging.get_verbosity()
    few_shot(path, 1, seed=0)
    assert not datasets.are_progress_bars_disabled()
    assert datasets.logging.get_verbosity() == level
