"""FGVC-5 from the datasets' own files, for whoever lacks VPT's JSON files."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from fewshot_data.made.pictures import write_picture

from .listed_copies import FGVC, labelled, make, names_of, opened, outcome_of
from .mutations import mutated

SEEDED = [name for name in FGVC if name != "fgvc-oxfordflower"]


@pytest.mark.parametrize("name", FGVC)
def test_the_official_files_give_the_same_test_set_and_say_what_they_are(tmp_path, name):
    make(name, tmp_path / "vpt")
    make(name, tmp_path / "own", "official")
    vpt, own = opened(name, tmp_path / "vpt"), opened(name, tmp_path / "own")
    assert labelled(own, own.test_indices) == labelled(vpt, vpt.test_indices)
    both = sorted([*own.train_indices, *own.val_indices])
    assert sorted(names_of(own, both)) == sorted(
        names_of(vpt, [*vpt.train_indices, *vpt.val_indices])
    )
    assert vpt.published
    assert not own.published
    assert "not the VPT split" in own.origin


@pytest.mark.parametrize("name", SEEDED)
def test_a_tenth_rounded_up_is_put_aside_by_the_seed(tmp_path, name):
    make(name, tmp_path, "official")
    raw = opened(name, tmp_path)
    assert (len(raw.train_indices), len(raw.val_indices)) == (14, 2)
    drawn = [opened(name, tmp_path, seed=seed) for seed in (0, 0, 1, 2, 3)]
    aside = [tuple(names_of(each, each.val_indices)) for each in drawn]
    assert aside[0] == aside[1]
    assert len(set(aside)) > 1


@pytest.mark.parametrize(
    ("train", "val"), [(5994, 600), (23_929, 2393), (12_000, 1200), (8144, 815)]
)
def test_a_tenth_has_the_size_of_vpts_validation_split(train, val):
    from fewshot_data.fgvc_official import _tenth_aside

    kept, aside = _tenth_aside([(f"{n}.jpg", 0) for n in range(train)], seed=1)
    assert (len(kept), len(aside)) == (train - val, val)


def test_flowers_have_an_official_validation_split(tmp_path):
    make("fgvc-oxfordflower", tmp_path, "official")
    first, second = (opened("fgvc-oxfordflower", tmp_path, seed=s) for s in (0, 1))
    assert names_of(first, first.val_indices) == names_of(second, second.val_indices)
    assert len(first.val_indices) == 4
    assert "seeded" not in first.origin


def test_nothing_is_put_aside_for_training_on_all(tmp_path):
    make("fgvc-cub", tmp_path, "official")
    raw = opened("fgvc-cub", tmp_path, train="train+val")
    assert (len(raw.train_indices), raw.val_indices) == (16, [])
    with pytest.raises(ValueError, match=r"'train' is 'train_0.1': without VPT's JSON"):
        opened("fgvc-cub", tmp_path, train="train_0.1")


def test_json_files_win_unless_the_official_layout_is_asked_for(tmp_path):
    make("fgvc-cub", tmp_path)
    make("fgvc-cub", tmp_path, "official")
    assert opened("fgvc-cub", tmp_path).published
    assert not opened("fgvc-cub", tmp_path, layout="official").published


def test_vpt_insisted_on_is_not_replaced(tmp_path):
    make("fgvc-cub", tmp_path, "official")
    with pytest.raises(FileNotFoundError, match=r"train\.json"):
        opened("fgvc-cub", tmp_path, layout="vpt")


def test_only_images_with_a_class_count(tmp_path):
    folder = make("fgvc-nabirds", tmp_path, "official")
    with (folder / "images.txt").open("a") as file:
        file.write("0a1b-2c3d 0001/no_class.jpg\n")
    with (folder / "classes.txt").open("a") as file:
        file.write("900 Birds\n")
    raw = opened("fgvc-nabirds", tmp_path)
    assert len(raw.names) == 22
    assert len(raw.class_names) == 3


def test_class_folders_of_ssf(tmp_path):
    make("fgvc-stanfordcar", tmp_path, "class-folders")
    raw = opened("fgvc-stanfordcar", tmp_path)
    assert raw.class_names == ("001", "002", "003")
    assert (len(raw.train_indices), len(raw.val_indices), len(raw.test_indices)) == (27, 3, 6)
    assert all(name.startswith("val/") for name in names_of(raw, raw.test_indices))
    assert not raw.published


def test_cars_with_the_devkit(tmp_path):
    folder = tmp_path / "stanford_cars"
    kinds = [("class", "O"), ("fname", "O")]
    places = {"train": "devkit/cars_train_annos.mat", "test": "cars_test_annos_withlabels.mat"}
    (folder / "devkit").mkdir(parents=True)
    for split, place in places.items():
        rows = [(number % 2 + 1, f"{number + 1:05d}.jpg") for number in range(10)]
        savemat(folder / place, {"annotations": np.array([rows], dtype=kinds)})
        for number, name in rows:
            write_one(folder / f"cars_{split}" / name, number)
    raw = opened("fgvc-stanfordcar", tmp_path)
    assert names_of(raw, raw.test_indices)[:2] == ["cars_test/00001.jpg", "cars_test/00002.jpg"]
    assert [raw.labels[i] for i in raw.test_indices][:3] == [0, 1, 0]
    assert (len(raw.train_indices), len(raw.val_indices)) == (9, 1)


def write_one(path, label):
    from random import Random

    write_picture(path, label, Random(0))


BROKEN = {
    "images.txt": (b"1\n", "is not '<id> <value>'"),
    "image_class_labels.txt": (b"1 one\n", "'one' is not a whole number"),
    "train_test_split.txt": (b"1 2\n", "absent from images.txt or train_test_split.txt"),
    "classes.txt": (b"\xff\xfe", "not UTF-8"),
}


@pytest.mark.parametrize("file", BROKEN)
def test_a_broken_text_file_is_named(tmp_path, file):
    folder = make("fgvc-cub", tmp_path, "official")
    content, message = BROKEN[file]
    (folder / file).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        opened("fgvc-cub", tmp_path)


def test_a_path_that_leaves_the_folder_is_refused(tmp_path):
    folder = make("fgvc-cub", tmp_path, "official")
    text = (folder / "images.txt").read_text()
    (folder / "images.txt").write_text(text.replace("001.Black", "../../001.Black", 1))
    with pytest.raises(ValueError, match="leaves the dataset's folder"):
        opened("fgvc-cub", tmp_path)


@pytest.mark.parametrize("name", ["fgvc-stanforddog", "fgvc-oxfordflower"])
def test_a_missing_annotation_file_is_named(tmp_path, name):
    folder = make(name, tmp_path, "official")
    other = "test_list.mat" if "dog" in name else "imagelabels.mat"
    (folder / other).unlink()
    with pytest.raises(FileNotFoundError, match=f"no annotation file '.*{other}'"):
        opened(name, tmp_path)


def test_an_image_number_beyond_the_labels_is_refused(tmp_path):
    folder = make("fgvc-oxfordflower", tmp_path, "official")
    savemat(folder / "setid.mat", {"trnid": [[1, 99]], "valid": [[2]], "tstid": [[3]]})
    with pytest.raises(ValueError, match="trnid exceeds the 22 labels"):
        opened("fgvc-oxfordflower", tmp_path)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_mutated_matlab_files_never_raise_anything_but_our_errors(tmp_path, data):
    folder = tmp_path / "fgvc" / "stanforddog"
    if not folder.exists():
        make("fgvc-stanforddog", tmp_path, "official")
        (folder / "kept").write_bytes((folder / "train_list.mat").read_bytes())
    content = mutated(data, (folder / "kept").read_bytes(), times=3, cut=8, grown=8)
    (folder / "train_list.mat").write_bytes(content)
    assert outcome_of("fgvc-stanforddog", tmp_path, "train_indices")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_mutated_text_files_never_raise_anything_but_our_errors(tmp_path, data):
    folder = tmp_path / "fgvc" / "cub"
    if not folder.exists():
        make("fgvc-cub", tmp_path, "official")
    name = data.draw(st.sampled_from(sorted(BROKEN)))
    before = (folder / name).read_bytes()
    content = mutated(data, before, times=3, cut=20, grown=300)
    (folder / name).write_bytes(content)
    try:
        outcome = outcome_of("fgvc-cub", tmp_path, "train_indices")
    finally:
        (folder / name).write_bytes(before)
    assert outcome
