"""One's own images: layouts, splits, and every mistake that a folder can hold."""

import os

import pytest
from PIL import Image

from fewshot_data import few_shot, load_spec
from fewshot_data.folder import open_source


def open_folder(root, seed=0):
    return open_source(load_spec(root), seed=seed)


def relative(raw, root, indices):
    return [raw.samples.paths[i].relative_to(root).as_posix() for i in indices]


def test_classes_are_folders_in_ascii_order(image_folder):
    root = image_folder({"zebra": 3, "Ape": 3, "cat": 3})
    raw = open_folder(root)
    assert raw.class_names == ("Ape", "cat", "zebra")
    for path, label in zip(raw.samples.paths, raw.labels, strict=True):
        assert path.parent.name == raw.class_names[label]


def test_without_splits_a_fifth_of_each_class_is_put_aside(image_folder):
    root = image_folder({"cat": 20, "dog": 10, "owl": 2})
    raw = open_folder(root)
    assert sorted(raw.train_indices + raw.test_indices) == list(range(32))
    assert [sum(raw.labels[i] == c for i in raw.test_indices) for c in range(3)] == [4, 2, 1]
    assert raw.test_indices == open_folder(root).test_indices
    assert raw.test_indices != open_folder(root, seed=1).test_indices


@pytest.mark.parametrize("names", [("train", "test"), ("Train", "TEST"), ("training", "testing")])
def test_train_and_test_folders_are_the_splits(image_folder, tmp_path, names):
    image_folder({"cat": 4, "dog": 3}, root=f"data/{names[0]}")
    root = image_folder({"cat": 2, "dog": 1}, root=f"data/{names[1]}", start=9).parent
    raw = open_folder(root)
    assert {path.split("/")[0] for path in relative(raw, root, raw.train_indices)} == {names[0]}
    assert {path.split("/")[0] for path in relative(raw, root, raw.test_indices)} == {names[1]}
    assert (len(raw.train_indices), len(raw.test_indices), raw.val_indices) == (7, 3, [])


def test_val_serves_as_test_only_where_there_is_no_test(image_folder):
    image_folder({"cat": 4, "dog": 3}, root="data/train")
    root = image_folder({"cat": 2, "dog": 1}, root="data/val").parent
    raw = open_folder(root)
    assert (len(raw.test_indices), raw.val_indices) == (3, [])
    image_folder({"cat": 5, "dog": 5}, root="data/test")
    raw = open_folder(root)
    assert (len(raw.test_indices), len(raw.val_indices)) == (10, 3)
    data = few_shot(root, 2, seed=0)
    assert data.val is not None
    assert [len(data.train), len(data.val), len(data.test)] == [4, 3, 10]


def test_a_class_may_be_called_train(image_folder):
    assert open_folder(image_folder({"train": 3, "plane": 3})).class_names == ("plane", "train")


def test_links_to_class_folders_are_followed(image_folder, tmp_path):
    root = image_folder({"cat": 3, "dog": 3})
    (tmp_path / "far").mkdir()
    (root / "dog").rename(tmp_path / "far" / "dog")
    (root / "dog").symlink_to(tmp_path / "far" / "dog", target_is_directory=True)
    raw = open_folder(root)
    assert raw.class_names == ("cat", "dog")
    assert all(path.is_relative_to(root) for path in raw.samples.paths)


def test_stray_files_next_to_class_folders_do_not_matter(image_folder):
    root = image_folder({"cat": 3, "dog": 3})
    for name in (".DS_Store", "README.txt", "labels.csv"):
        (root / name).touch()
    (root / ".git").mkdir()
    (root / "cat" / ".DS_Store").touch()
    raw = open_folder(root)
    assert raw.class_names == ("cat", "dog")
    assert len(raw.samples) == 6


def test_images_are_decoded_to_rgb(image_folder):
    root = image_folder({"cat": 3, "dog": 3})
    Image.new("L", (5, 5)).save(root / "cat" / "0.png")
    raw = open_folder(root)
    assert {raw.samples[i].mode for i in range(6)} == {"RGB"}


def test_the_folder_is_never_written_to(image_folder):
    root = image_folder({"cat": 4, "dog": 4})

    def state():
        entries = [root, *sorted(root.rglob("*"))]
        return [(str(e), e.stat().st_mtime_ns, e.stat().st_size) for e in entries]

    before = state()
    for folder in (root, root / "cat", root / "dog"):
        folder.chmod(0o555)
    try:
        data = few_shot(root, 2, seed=0)
        assert [data.test[i]["image"].size for i in range(len(data.test))] == [(12, 10)] * 2
    finally:
        for folder in (root, root / "cat", root / "dog"):
            folder.chmod(0o755)
    assert state() == before


def test_non_ascii_names_are_kept(image_folder):
    root = image_folder({"mañana": 2, "日本": 2})
    assert open_folder(root).class_names == ("mañana", "日本")


def test_an_empty_class_is_named(image_folder):
    root = image_folder({"cat": 3, "dog": 3})
    (root / "owl").mkdir()
    (root / "owl" / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"class 'owl' is empty.*\.jpg"):
        open_folder(root)


def test_a_folder_without_class_folders_says_what_belongs_there(tmp_path):
    (tmp_path / "1.jpg").touch()
    with pytest.raises(FileNotFoundError, match=r"no class folders in .*a folder named after it"):
        open_folder(tmp_path)


def test_one_level_too_high_is_recognised(image_folder):
    root = image_folder({"cat": 3, "dog": 3}, root="pets/pets")
    with pytest.raises(ValueError, match=r"only one class folder, 'pets'.*mean '.*pets/pets'"):
        open_folder(root.parent)


def test_one_class_is_too_few(image_folder):
    with pytest.raises(ValueError, match=r"only one class folder, 'cat'.*two classes are needed"):
        open_folder(image_folder({"cat": 3}))


def test_a_folder_that_vanished_is_named(image_folder, tmp_path):
    spec = load_spec(image_folder({"cat": 3, "dog": 3}))
    (tmp_path / "data").rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match=r"no folder '.*data': looked for"):
        open_source(spec, seed=0)


def test_a_class_only_in_the_test_folder_is_refused(image_folder):
    image_folder({"cat": 3, "dog": 3}, root="data/train")
    root = image_folder({"cat": 3, "owl": 3}, root="data/test").parent
    with pytest.raises(ValueError, match="class 'owl' is in the test folder but not in the train"):
        open_folder(root)


def test_a_class_without_test_images_is_logged(image_folder, caplog):
    image_folder({"cat": 3, "dog": 3, "owl": 3}, root="data/train")
    root = image_folder({"cat": 3, "dog": 3}, root="data/test").parent
    assert len(open_folder(root).class_names) == 3
    assert "the test folder has no images of 1 classes: ['owl']" in caplog.text


def test_too_few_images_for_the_shots(image_folder):
    root = image_folder({"cat": 12, "owl": 4})
    with pytest.raises(ValueError, match=r"class 'owl' has 3 sample.*shots=8.*--replace"):
        few_shot(root, 8, seed=0)
    assert len(few_shot(root, 8, seed=0, replace=True).train) == 16


def test_a_broken_image_is_named_when_it_is_reached(image_folder):
    root = image_folder({"cat": 2, "dog": 2})
    for path in root.rglob("*.png"):
        os.truncate(path, 60)
    data = few_shot(root, 1, seed=0)
    with pytest.raises(ValueError, match=r"cannot read image '.*\.png'"):
        data.train[0]


def test_unknown_options_offer_the_closest(image_folder):
    from dataclasses import replace

    spec = load_spec(image_folder({"cat": 2, "dog": 2}))
    with pytest.raises(ValueError, match=r"unknown option 'test_shar'.*did you mean 'test_share'"):
        open_source(replace(spec, options={**spec.options, "test_shar": 0.5}), seed=0)
    with pytest.raises(ValueError, match="'test_share' of source 'folder' is 'half'"):
        open_source(replace(spec, options={**spec.options, "test_share": "half"}), seed=0)
