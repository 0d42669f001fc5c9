"""Copies of the hub: a local folder in the hub's own form, read by the same code as a download."""

import os
import sys
from dataclasses import replace

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from fewshot_data import few_shot, list_datasets, load_spec, made
from fewshot_data.hub import open_source
from fewshot_data.hub_labels import Labels, labels_like
from fewshot_data.hub_rows import load_splits


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """The library's cache is the test's own."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def copy(tmp_path):
    """A copy of three classes, with four and two images in train and validation."""
    from importlib import import_module
    from random import Random

    spec = replace(load_spec("digits"), name="copy")
    module = import_module(made.MAKERS["hub"])
    return module.make(spec, tmp_path, layout=module.LAYOUTS[0], rng=Random(0))


def write(folder, split, **columns):
    folder.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / f"{split}-00000-of-00001.parquet")


def test_images_and_labels_are_found_by_the_types_of_columns(copy):
    data = few_shot(f"hub:{copy}", 2, seed=1)
    assert data.modality == "image"
    assert data.class_names == ("apple_pie", "cheesecake", "cheese_plate")
    assert (len(data.train), len(data.test), data.val) == (6, 6, None)
    assert [item["image"].mode for item in (data.train[0], data.test[5])] == ["RGB", "RGB"]
    assert not data.published
    assert "not the split of CoOp or VPT" in data.origin


def test_every_image_is_the_one_of_its_row(copy):
    raw = open_source(load_spec(f"hub:{copy}"), seed=0)
    stored = load_splits(str(copy))
    rows = [*stored["train"], *stored["validation"]]
    assert [raw.samples[i].tobytes() for i in range(len(rows))] == [
        row["image"].convert("RGB").tobytes() for row in rows
    ]
    assert raw.labels == [row["label"] for row in rows]


def test_exif_does_not_turn_an_image(tmp_path):
    import io

    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn, which the library would apply
    stream = io.BytesIO()
    Image.new("RGB", (8, 4)).save(stream, "JPEG", exif=exif)
    image = {"bytes": stream.getvalue(), "path": None}
    write(tmp_path / "turned", "train", image=[image] * 4, label=[0, 0, 1, 1])
    raw = open_source(load_spec(f"hub:{tmp_path / 'turned'}"), seed=0)
    assert raw.samples[0].size == (8, 4)


def hub_spec(path, **options):
    spec = replace(load_spec("digits"), name="copy", source="hub", classes=None)
    return replace(spec, options={"id": str(path), **options})


def test_a_broken_image_names_its_row(tmp_path):
    write(tmp_path / "bad", "train", image=[{"bytes": b"x", "path": None}] * 4, label=[0, 0, 1, 1])
    raw = open_source(hub_spec(tmp_path / "bad", image_column="image"), seed=0)
    with pytest.raises(ValueError, match="row 2 of split 0"):
        raw.samples[2]


def test_texts_are_found_as_well(tmp_path):
    rows = {"idx": list(range(6)), "sentence": [f"text {n}" for n in range(6)]}
    write(tmp_path / "texts", "train", **rows, label=[0, 1, 0, 1, 0, 1])
    write(tmp_path / "texts", "validation", **rows, label=[0, 1, 0, 1, 0, 1])
    write(tmp_path / "texts", "test", **rows, label=[-1] * 6)  # a benchmark's secret
    data = few_shot(f"hub:{tmp_path / 'texts'}", 1, seed=0)
    assert data.modality == "text"
    assert (len(data.train), len(data.test)) == (2, 6)
    assert data.test[1]["text"] == "text 1"


def test_sentence_pairs_are_found_and_columns_can_be_named(tmp_path):
    rows = {"idx": [1, 2], "premise": ["a", "b"], "hypothesis": ["c", "d"]}
    for split in ("train", "validation"):
        write(tmp_path / "pairs", split, **rows, kind=["x", "y"])
    name = f"hub:{tmp_path / 'pairs'}"
    data = few_shot(name, 1, seed=0, label_column="kind")
    assert [item["text"] for item in (data.test[0], data.test[1])] == [("a", "c"), ("b", "d")]
    data = few_shot(name, 1, seed=0, label_column="kind", text_column="hypothesis")
    assert data.test[1]["text"] == "d"


def test_a_single_split_gives_a_share_of_itself_for_testing(tmp_path):
    write(tmp_path / "one", "train", text=[f"t{n}" for n in range(20)], label=["a", "b"] * 10)
    raw = open_source(load_spec(f"hub:{tmp_path / 'one'}"), seed=0)
    assert (len(raw.train_indices), len(raw.test_indices)) == (16, 4)
    assert raw.class_names == ("a", "b")


def test_columns_that_may_be_meant_are_told(tmp_path):
    write(tmp_path / "two", "train", first=["a", "b"], second=["c", "d"], label=[0, 1])
    with pytest.raises(ValueError, match=r"text columns first, second .* by text_column=\.\.\."):
        few_shot(f"hub:{tmp_path / 'two'}", 1, seed=0)
    write(tmp_path / "none", "train", text=["a", "b"], score=[0.5, 1.0])
    with pytest.raises(ValueError, match=r"no label column .* by label_column=\.\.\."):
        few_shot(f"hub:{tmp_path / 'none'}", 1, seed=0)
    with pytest.raises(ValueError, match="has no column 'mood'"):
        open_source(hub_spec(tmp_path / "two", text_column="first", label_column="mood"), seed=0)


def test_the_registry_knows_the_names_of_the_copies_that_it_lists():
    """All but ImageNet, whose names have duplicates, and VPT's sets, which have no names."""
    listed = {spec.name: spec for spec in list_datasets() if spec.hub and spec.group == "clip"}
    named = {name for name, spec in listed.items() if spec.class_names}
    assert named >= {"food101", "caltech101", "eurosat", "dtd", "oxford_pets", "stanford_cars"}
    assert all(len(listed[name].class_names) == listed[name].classes for name in named)
    food = load_spec("food101").class_names
    copy = ("cheesecake", "cheese_plate")  # the order of ethz/food101
    assert [food.index(name) for name in copy] == [17, 16]


FOOD = ("apple_pie", "cheese_plate", "cheesecake")


def known(**fields):
    return replace(load_spec("digits"), **{"name": "food", "class_names": FOOD, **fields})


def test_labels_are_renumbered_by_class_name_because_copies_order_them_otherwise():
    copy = Labels({"train": [0, 1, 2]}, ("apple_pie", "cheesecake", "cheese_plate"), "")
    mapped = labels_like(copy, known())
    assert mapped.of["train"] == [0, 2, 1]
    assert mapped.class_names == FOOD
    assert "mapped by class name to those of 'food'" in mapped.how


def test_spellings_years_and_renames_are_seen_through():
    cars = known(class_names=("2012 Audi TTS Coupe", "2012 Ram C/V Cargo Van Minivan"))
    copy = Labels({}, ("Ram C-V Cargo Van Minivan 2012", "Audi TTS Coupe 2012"), "")
    assert labels_like(replace_of(copy, [0, 1]), cars).of["t"] == [1, 0]
    land = known(
        class_names=("Annual Crop Land", "Forest"), renames={"AnnualCrop": "Annual Crop Land"}
    )
    copy = Labels({}, ("Forest", "AnnualCrop"), "")
    assert labels_like(replace_of(copy, [0, 1]), land).of["t"] == [1, 0]


def replace_of(labels, values):
    return replace(labels, of={"t": values})


def test_classes_that_the_few_shot_form_leaves_out_are_left_out():
    caltech = known(class_names=("face", "accordion"), renames={"Faces": "face"})
    copy = Labels(
        {"t": [0, 1, 2, 3]}, ("accordion", "BACKGROUND_Google", "Faces", "Faces_easy"), ""
    )
    assert labels_like(copy, caltech).of["t"] == [1, None, 0, None]


@pytest.mark.parametrize(
    "names",
    [
        ("apple_pie", "cheesecake", "sushi"),
        ("apple_pie", "cheesecake"),
        (*FOOD, "sushi"),
        (*FOOD, "Apple Pie"),
    ],
)
def test_names_that_do_not_match_one_to_one_are_refused(names):
    with pytest.raises(ValueError, match=r"do not match those of 'food' one to one.*like = \"\""):
        labels_like(Labels({}, names, ""), known())


def test_a_copy_that_the_registry_knows_is_mapped_when_it_is_opened(copy, monkeypatch):
    """The registry's entry for the copy's id stands in for the id of the real copy."""
    import fewshot_data.hub as hub

    entry = known(hub=(str(copy),))
    monkeypatch.setattr(hub, "list_datasets", lambda: (*list_datasets(), entry))
    data = few_shot(f"hub:{copy}", 4, seed=0)
    assert data.class_names == FOOD
    raw = open_source(load_spec(f"hub:{copy}"), seed=0)
    assert raw.labels == [0] * 4 + [2] * 4 + [1] * 4 + [0] * 2 + [2] * 2 + [1] * 2


def test_without_a_network_the_error_says_how_to_bring_a_copy(monkeypatch, tmp_path):
    import datasets
    import huggingface_hub

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match=r"cannot get 'nobody/nothing' .*hf download"):
        few_shot("hub:nobody/nothing", 1, seed=0)


def test_a_folder_called_datasets_that_hides_the_library_is_named(tmp_path, monkeypatch):
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "datasets")
    with pytest.raises(
        ValueError, match=r"datasets/__init__\.py, which is not the Hugging Face li"
    ):
        few_shot("hub:nobody/nothing", 1, seed=0)


def test_a_folder_that_hides_an_id_of_the_hub_is_named(tmp_path, monkeypatch):
    (tmp_path / "glue").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"holds 'glue', which hides.*write 'hub:\./glue'"):
        load_spec("hub:glue")


@pytest.mark.parametrize(
    "name", ["hub:", "hub: ", "hub:./nothing", "hub:" + "/x" * 3000, "hub:~nobody/x"]
)
def test_no_name_crashes_with_anything_but_our_errors(name):
    with pytest.raises((ValueError, FileNotFoundError)):
        load_spec(name)


def test_random_bytes_in_the_place_of_tables_are_our_error(tmp_path):
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "train-00000-of-00001.parquet").write_bytes(os.urandom(200))
    with pytest.raises(ValueError, match=r"cannot read '.*junk' of the hub"):
        load_spec(f"hub:{tmp_path / 'junk'}")
    (tmp_path / "empty").mkdir()
    with pytest.raises((ValueError, FileNotFoundError), match="empty"):
        load_spec(f"hub:{tmp_path / 'empty'}")
