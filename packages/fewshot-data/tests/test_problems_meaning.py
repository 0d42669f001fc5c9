"""What files are taken to mean: problems 17 to 31 of the data specification, by number."""

import json
import pickle
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fewshot_data import few_shot, list_datasets, load_spec
from fewshot_data.check import check_dataset
from fewshot_data.coop_pickles import read_pickle
from fewshot_data.harness import harness_transforms
from fewshot_data.made import make
from fewshot_data.sources import open_source


def changed(path, change):
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def test_problem_17_numbered_folders_are_labels_and_not_sorted_as_strings(tmp_path):
    make(load_spec("imagenetv2"), tmp_path)
    raw = open_source(load_spec("imagenetv2").at(tmp_path), seed=0)
    folders = [name.split("/")[0] for name in raw.names]
    assert dict(zip(folders, raw.labels, strict=True)) == {
        "0": 0,
        "1": 1,
        "2": 2,
        "10": 10,
        "11": 11,
    }


@pytest.mark.parametrize("name", ["imagenet_a", "imagenet_r"])
def test_problem_18_a_readme_is_no_class(tmp_path, name):
    folder = make(load_spec(name), tmp_path)
    assert list(folder.rglob("README.txt"))
    assert check_dataset(load_spec(name), tmp_path).classes == (3, 200)


def test_problem_19_pickles_run_nothing_and_are_ignored(tmp_path):
    flag, folder = tmp_path / "flag", make(load_spec("dtd"), tmp_path)

    class Harmful:
        def __reduce__(self):
            return open, (str(flag), "w")

    (folder / "split_fewshot").mkdir()
    path = folder / "split_fewshot" / "shot_2-seed_1.pkl"
    path.write_bytes(pickle.dumps({"train": [Harmful()], "val": []}))
    report = check_dataset(load_spec("dtd"), tmp_path)
    few_shot("dtd", 2, seed=1, protocol="coop", root=tmp_path)
    with pytest.raises(ValueError, match="does not need"):
        read_pickle(path, "images")
    assert (report.caches, flag.exists()) == ((str(path),), False)


def test_problem_20_the_protocol_says_who_draws_first(tmp_path):
    make(load_spec("dtd"), tmp_path)
    drawn = {
        protocol: few_shot("dtd", 2, seed=1, protocol=protocol, root=tmp_path)
        for protocol in ("coop", "so", "clip-lora", "tip-adapter")
    }
    train = {protocol: data.train.indices for protocol, data in drawn.items()}
    assert train["coop"] != train["so"] == train["clip-lora"]
    assert {data.protocol for data in drawn.values()} == set(drawn)  # as results record it


def test_problem_21_labels_in_another_order_are_told_and_refused_when_strict(tmp_path):
    folder = make(load_spec("dtd"), tmp_path)
    split = folder / "split_zhou_DescribableTextures.json"
    table = json.loads(split.read_text())
    names = {label: name for part in table.values() for _, label, name in part}
    spec = replace(load_spec("dtd"), classes=4, splits={}, class_names=tuple(
        names[label] for label in (0, 2, 1, 3)))  # fmt: skip
    assert any("other" in c or "differs" in c for c in check_dataset(spec, tmp_path).complaints)
    with pytest.raises(ValueError, match="2 labels stand for other classes"):
        few_shot(spec, 1, seed=0, root=tmp_path, strict=True)


def test_problem_22_two_classes_may_have_one_name(tmp_path):
    make(load_spec("imagenet"), tmp_path)
    data = few_shot("imagenet", 1, seed=1, root=tmp_path)
    assert data.class_names == ("tench", "missile", "missile")
    assert sorted(data.train.labels[i] for i in data.train.indices) == [0, 1, 2]


def test_problem_23_backslashes_become_slashes(tmp_path):
    folder = make(load_spec("dtd"), tmp_path)
    before = few_shot("dtd", 1, seed=1, protocol="coop", root=tmp_path)
    changed(
        folder / "split_zhou_DescribableTextures.json",
        lambda table: {s: [[p.replace("/", "\\"), *r] for p, *r in v] for s, v in table.items()},
    )
    after = few_shot("dtd", 1, seed=1, protocol="coop", root=tmp_path)
    assert after.names == before.names
    assert after.train.indices == before.train.indices


def test_problem_24_a_folder_called_datasets_is_named(tmp_path, monkeypatch):
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "datasets", raising=False)
    with pytest.raises(ValueError, match="which is not the Hugging Face library"):
        few_shot("hub:nobody/nothing", 1, seed=0)
    make(load_spec("rte"), tmp_path, layout="tsv")  # needs no such library
    assert check_dataset(load_spec("rte"), tmp_path).error == ""


@pytest.mark.parametrize("name", ["vtab-dtd", "fs-food-101"])
def test_problem_25_the_last_space_of_a_line_separates(tmp_path, name):
    folder = make(load_spec(name), tmp_path)
    lists = [p for p in folder.rglob("*") if p.suffix == ".txt" or "meta.list" in p.name]
    images = {line.rpartition(" ")[0] for path in lists for line in path.read_text().splitlines()}
    if name == "vtab-dtd":
        for path in lists:
            path.write_text(path.read_text().replace("/0", "/image 0"))
        for image in images:
            (folder / image).rename(folder / image.replace("/0", "/image 0"))
    raw = open_source(load_spec(name).at(tmp_path), seed=0)
    assert all(" " in image for image in raw.names)


@pytest.mark.parametrize("listed", ["car_ims", "cars_train"])
def test_problem_26_the_other_numbering_of_the_cars_is_told(tmp_path, listed):
    there = "cars_train" if listed == "car_ims" else "car_ims"
    folder = make(load_spec("fgvc-stanfordcar"), tmp_path)
    for split in ("train", "val", "test"):
        changed(folder / f"{split}.json",
                lambda ids: {k.replace("car_ims", listed): v for k, v in ids.items()})  # fmt: skip
    if there != "car_ims":
        (folder / "car_ims").rename(folder / there)
    error = check_dataset(load_spec("fgvc-stanfordcar"), tmp_path).error
    assert f"list {listed}/" in error
    assert f"there are {there}/" in error


def test_problem_27_one_map_of_classes_serves_all_splits(tmp_path):
    folder = make(load_spec("fgvc-nabirds"), tmp_path)
    for split in ("val", "test"):
        changed(folder / f"{split}.json",
                lambda ids: {k: v for k, v in ids.items() if int(v) != 0})  # fmt: skip
    report = check_dataset(load_spec("fgvc-nabirds"), tmp_path)
    raw = open_source(load_spec("fgvc-nabirds").at(tmp_path), seed=0)
    assert {raw.labels[i] for i in raw.test_indices} == {1, 2}
    assert any("lacks 1 of 3 classes" in line for line in [*report.notes, *report.complaints])


def test_problem_28_nothing_is_chosen_on_test_images(tmp_path):
    for name in ("imagenet", "dtd", "vtab-cifar", "fgvc-cub"):
        make(load_spec(name), tmp_path)
        raw = open_source(load_spec(name).at(tmp_path), seed=0)
        assert not set(raw.test_indices) & {*raw.train_indices, *raw.val_indices}, name
    assert few_shot("imagenet", 1, seed=1, protocol="coop", root=tmp_path).val is None
    assert "highest test accuracy" in load_spec("fgvc-cub").notes


def test_problem_29_base_and_new_follow_the_order_of_labels(tmp_path):
    folder = make(load_spec("dtd"), tmp_path)
    base = few_shot("dtd", 1, seed=1, root=tmp_path, subsample="base").class_names
    changed(
        folder / "split_zhou_DescribableTextures.json",
        lambda table: {s: [[p, 3 - label, n] for p, label, n in v] for s, v in table.items()},
    )
    assert few_shot("dtd", 1, seed=1, root=tmp_path, subsample="new").class_names == base[::-1]
    assert any("order differs" in c for c in check_dataset(load_spec("dtd"), tmp_path).complaints)


@pytest.mark.parametrize("spec", [s for s in list_datasets() if s.source == "vtab"],
                         ids=lambda spec: spec.name)  # fmt: skip
def test_problem_30_vtab_says_that_its_images_are_lossy(tmp_path, spec):
    make(spec, tmp_path)
    assert "JPEG" in check_dataset(spec, tmp_path).origin
    assert "lossy JPEG" in spec.notes


def test_problem_31_one_option_normalises_both_sides_and_two_warn():
    one = harness_transforms("snell-fgvc", 16, 0.5, 0.5, normalise="inception")
    assert (one.train.mean, one.train.std) == (one.test.mean, one.test.std)
    with pytest.warns(UserWarning, match="normalised with"):
        harness_transforms("snell-fgvc", 16, 0.5, 0.5, normalise="inception",
                           normalise_train="imagenet")  # fmt: skip


def test_every_problem_of_the_specification_has_a_test():
    files = [Path(__file__), Path(__file__).with_name("test_problems_files.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    assert {int(n) for n in re.findall(r"^def test_problem_(\d+)_", text, re.M)} == {*range(1, 33)}
