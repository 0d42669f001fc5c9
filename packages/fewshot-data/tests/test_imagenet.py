"""ImageNet and its shifts: both layouts, names that occur twice, folders that are numbers."""

import logging
import shutil

import pytest

from fewshot_data import few_shot, list_datasets, load_spec
from fewshot_data.imagenet import read_class_names
from fewshot_data.made import make
from fewshot_data.sources import open_source

SHIFTS = [spec.name for spec in list_datasets() if spec.source == "imagenet-shift"]


def opened(name, root, **options):
    from dataclasses import replace

    spec = load_spec(name)
    spec = replace(spec, options={**spec.options, **options})
    return open_source(spec.at(root), seed=1)


def test_both_layouts_are_the_same_data(tmp_path):
    for layout in ("coop", "so"):
        make(load_spec("imagenet"), tmp_path / layout, layout=layout)
    coop, so = (opened("imagenet", tmp_path / layout) for layout in ("coop", "so"))
    assert (coop.names, coop.labels, coop.test_indices) == (so.names, so.labels, so.test_indices)
    assert coop.class_names == ("tench", "missile", "missile")  # two classes of one name stay two
    assert so.class_names == ("n01440764", "n03773504", "n04008634")
    assert len(coop.train_indices), len(coop.test_indices) == (24, 6)


def test_without_names_ids_stand_in_and_it_is_said(tmp_path, caplog):
    make(load_spec("imagenet"), tmp_path, layout="so")
    with caplog.at_level(logging.WARNING):
        opened("imagenet", tmp_path)
    assert "WordNet ids stand in for class names" in caplog.text


def test_so_validates_on_training_images_and_coop_on_none(tmp_path):
    make(load_spec("imagenet"), tmp_path)
    so = few_shot("imagenet", 2, seed=1, protocol="so", root=tmp_path)
    assert so.val is not None
    assert not set(so.train.indices) & set(so.val.indices)
    assert len(so.train), len(so.val) == (6, 6)
    assert few_shot("imagenet", 2, seed=1, protocol="coop", root=tmp_path).val is None


def test_a_flat_validation_folder_is_explained(tmp_path):
    folder = make(load_spec("imagenet"), tmp_path, layout="so")
    for path in sorted((folder / "val").rglob("*.JPEG")):
        path.rename(folder / "val" / path.name.replace("2012", path.parent.name))
    for path in (folder / "val").iterdir():
        if path.is_dir():
            path.rmdir()
    with pytest.raises(ValueError, match="not sorted into class folders"):
        opened("imagenet", tmp_path)


def test_a_stale_cache_of_coop_is_not_touched(tmp_path):
    folder = make(load_spec("imagenet"), tmp_path)
    (folder / "preprocessed.pkl").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    assert len(opened("imagenet", tmp_path).train_indices) == 24


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        ("n01440764 tench\nn03773504 missile\n", "no line for 1 class folders"),
        ("n03773504 missile\nn01440764 tench\nn04008634 missile\n", "not sorted"),
        ("n01440764 tench\nn01440764 tench\n", "occurs twice"),
        ("tench\n", "is not '<n01440764> <name>'"),
    ],
)
def test_wrong_class_names_are_noticed(lines, match, tmp_path):
    folder = make(load_spec("imagenet"), tmp_path)
    (folder / "classnames.txt").write_text(lines)
    with pytest.raises(ValueError, match=match):
        opened("imagenet", tmp_path)


def test_splits_with_different_folders_are_refused(tmp_path):
    folder = make(load_spec("imagenet"), tmp_path)
    shutil.rmtree(folder / "images" / "val" / "n01440764")
    with pytest.raises(ValueError, match=r"different class folders: 1 .* 'n01440764'"):
        opened("imagenet", tmp_path)


def test_another_number_of_classes_is_a_warning_and_an_error_when_strict(tmp_path, caplog):
    make(load_spec("imagenet"), tmp_path)
    with caplog.at_level(logging.WARNING):
        few_shot("imagenet", 1, seed=1, root=tmp_path)
    assert "should have 1000 classes but 3" in caplog.text
    with pytest.raises(ValueError, match="should have 1000 classes"):
        few_shot("imagenet", 1, seed=1, root=tmp_path, strict=True)


def test_folders_that_are_numbers_are_the_labels(tmp_path):
    make(load_spec("imagenetv2"), tmp_path)
    raw = opened("imagenetv2", tmp_path)
    by_folder = {
        name.split("/")[0]: label for name, label in zip(raw.names, raw.labels, strict=True)
    }
    assert by_folder == {"0": 0, "1": 1, "2": 2, "10": 10, "11": 11}


@pytest.mark.parametrize("name", [name for name in SHIFTS if name != "imagenetv2"])
def test_labels_count_the_set_or_all_of_imagenet(name, tmp_path):
    folder = make(load_spec(name), tmp_path)
    assert set(opened(name, tmp_path).labels) == {0, 1, 2}
    names = (folder / "classnames.txt").read_text()
    (folder / "classnames.txt").write_text("n00000001 first\n" + names)
    raw = opened(name, tmp_path, label_space="imagenet")
    assert set(raw.labels) == {1, 2, 3}
    assert raw.class_names[0] == "first"
    (folder / "classnames.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"needs classnames\.txt"):
        opened(name, tmp_path, label_space="imagenet")


@pytest.mark.parametrize("name", SHIFTS)
def test_files_beside_the_folders_and_odd_names_do_not_matter(name, tmp_path):
    make(load_spec(name), tmp_path)
    raw = opened(name, tmp_path)
    assert not any("README" in one for one in raw.names)
    assert any("," in one and " " in one for one in raw.names)
    assert raw.samples[0].mode == "RGB"
    assert not raw.train_indices


def test_names_of_imagenet_beside_a_shift_are_used(tmp_path):
    make(load_spec("imagenet"), tmp_path, layout="coop")
    make(load_spec("imagenet_a"), tmp_path, layout="so")
    assert opened("imagenet_a", tmp_path).class_names == ("tench", "missile", "missile")


def test_a_names_file_keeps_spaces(tmp_path):
    (tmp_path / "c.txt").write_text("n01440764 great white shark\r\n")
    assert read_class_names(tmp_path / "c.txt") == {"n01440764": "great white shark"}
