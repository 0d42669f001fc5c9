"""What holds for every dataset that comes as lists: FGVC-5, VTAB-1k and NOAH's draws."""

import os
from dataclasses import replace
from importlib import import_module

import pytest

from fewshot_data import list_datasets, load_spec, made
from fewshot_data.sources import open_source

from .listed_copies import make, opened

SOURCES = ("fgvc", "vtab", "few-shot-lists")
LISTED = [spec for spec in list_datasets() if spec.source in SOURCES]
SOME = [next(spec for spec in LISTED if spec.source == source) for source in SOURCES]
CASES = [
    (spec.name, layout)
    for spec in LISTED
    for layout in import_module(made.MAKERS[spec.source]).LAYOUTS
]


def state(root):
    return [(str(e), e.stat().st_mtime_ns, e.stat().st_size) for e in sorted(root.rglob("*"))]


@pytest.mark.parametrize(("name", "layout"), CASES)
def test_every_layout_of_every_dataset_opens_and_nothing_is_written(tmp_path, name, layout):
    make(name, tmp_path, layout)
    before = state(tmp_path)
    raw = opened(name, tmp_path)
    assert len(raw.names) == len(raw.samples) == len(raw.labels)
    assert raw.test_indices
    assert not set(raw.train_indices) & set(raw.test_indices)
    assert not set(raw.val_indices) & set(raw.test_indices)
    assert raw.samples[raw.test_indices[-1]].mode == "RGB"
    assert str(tmp_path) in raw.origin
    assert state(tmp_path) == before


@pytest.mark.parametrize("spec", SOME, ids=lambda spec: spec.name)
def test_a_copy_is_small_and_strictness_refuses_it(tmp_path, spec, caplog):
    make(spec.name, tmp_path)
    assert "instead of" in _warnings(caplog, spec.name, tmp_path)
    with pytest.raises(ValueError, match=r"instead of|classes but"):
        opened(spec.name, tmp_path, strict=True)


def _warnings(caplog, name, root):
    opened(name, root)
    return caplog.text


@pytest.mark.parametrize("spec", SOME, ids=lambda spec: spec.name)
def test_missing_images_are_told_together(tmp_path, spec):
    folder = make(spec.name, tmp_path)
    images = sorted(folder.rglob("*.jpg"))
    for path in images:
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"\d+ of \d+ listed files are missing: ") as caught:
        opened(spec.name, tmp_path)
    assert str(caught.value).count(".jpg") == min(10, _missing(caught))


def _missing(caught):
    return int(str(caught.value).split(": ")[1].split(" of ")[0])


@pytest.mark.parametrize("name", ["fgvc-cub", "vtab-dtd", "fs-food-101"])
def test_the_folder_itself_may_be_given_or_the_one_above_a_doubled_name(tmp_path, name):
    folder = make(name, tmp_path)
    expected = opened(name, tmp_path).names
    assert opened(name, folder).names == expected
    inner = folder / folder.name
    inner.mkdir()
    for entry in list(folder.iterdir()):
        if entry != inner:
            entry.rename(inner / entry.name)
    assert opened(name, tmp_path).names == expected


@pytest.mark.parametrize("name", ["fgvc-cub", "vtab-dtd", "fs-food-101"])
def test_links_are_followed(tmp_path, name):
    folder = make(name, tmp_path / "root")
    folder.rename(tmp_path / "far")
    folder.symlink_to(tmp_path / "far", target_is_directory=True)
    image = next((tmp_path / "far").rglob("*.jpg"))
    image.rename(tmp_path / "one.jpg")
    image.symlink_to(tmp_path / "one.jpg")
    raw = opened(name, tmp_path / "root")
    assert all(os.fspath(path).startswith(str(folder)) for path in raw.samples.paths)


@pytest.mark.parametrize("name", ["fgvc-cub", "vtab-dtd", "fs-food-101"])
def test_an_absent_dataset_names_its_homes(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=r"https://github\.com"):
        opened(name, tmp_path)


@pytest.mark.parametrize("spec", LISTED, ids=lambda spec: spec.name)
def test_every_dataset_has_a_home_that_is_not_known_to_be_dead(spec):
    assert [home for home in spec.homes if "dead" not in home and "404" not in home]
    assert spec.citation
    assert spec.folders


def test_labels_in_another_order_are_detected(caplog):
    spec = load_spec("digits")
    names = open_source(spec, seed=0).class_names
    assert "other classes" not in caplog.text
    swapped = replace(spec, class_names=(names[1], names[0], *names[2:]))
    open_source(swapped, seed=0)
    assert "2 labels stand for other classes than in the published splits, the first is 0" in (
        caplog.text
    )
    with pytest.raises(ValueError, match=r"'digit zero' instead of 'digit one'.*strict=True"):
        open_source(swapped, seed=0, strict=True)
