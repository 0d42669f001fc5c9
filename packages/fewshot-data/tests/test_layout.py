"""Finding a dataset's folder: spelling, depth, links, two candidates, and what a failure says."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from fewshot_data import DatasetSpec
from fewshot_data.layout import find_folder

SPEC = DatasetSpec(
    name="toy",
    title="Toy",
    modality="image",
    source="digits",
    classes=2,
    folders=("caltech-101", "Caltech_101/data"),
    homes=("https://example.org",),
)
MARKS = ["split.json", "images"]


def place(root: Path, path: str, mark: str = "split.json") -> Path:
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / mark).touch()
    return folder


def found(root, **changes):
    return find_folder(replace(SPEC, **changes).at(root), marks=MARKS)


@pytest.mark.parametrize(
    "path",
    [
        "caltech-101",
        "Caltech_101/data",
        "Caltech101",
        "CALTECH 101",
        "caltech101/Data",
        "",
        "caltech-101/caltech-101",
        "caltech-101/other name",
        "sets/caltech-101",
        "sets/caltech_101",
    ],
)
def test_a_folder_is_found_as_it_is_spelled_on_disk(tmp_path, path):
    folder = place(tmp_path, path)
    assert found(tmp_path) == folder


@pytest.mark.parametrize("inside", ["images", "images/cat"])
def test_a_root_that_is_too_deep_is_left_again_by_one_level_only(tmp_path, inside):
    folder = place(tmp_path, "caltech-101")
    (folder / inside).mkdir(parents=True)
    if inside == "images":
        assert found(folder / inside) == folder
    else:
        with pytest.raises(FileNotFoundError, match="no folder of 'toy'"):
            found(folder / inside)


def test_a_root_beside_the_folder_leads_to_it(tmp_path):
    folder = place(tmp_path, "caltech-101")
    (tmp_path / "another").mkdir()
    assert found(tmp_path / "another") == folder


def test_an_exact_name_wins_over_one_that_is_alike(tmp_path):
    place(tmp_path, "Caltech101")
    exact = place(tmp_path, "caltech-101", "images")
    assert found(tmp_path) == exact


def test_of_two_the_one_with_the_better_mark_is_taken(tmp_path):
    place(tmp_path, "Caltech101", "images")
    better = place(tmp_path, "CALTECH-101")
    assert found(tmp_path) == better


def test_two_of_the_same_claim_are_both_named(tmp_path):
    one, two = place(tmp_path, "CALTECH-101"), place(tmp_path, "Caltech101")
    with pytest.raises(ValueError, match=f"may be '{re.escape(str(one))}' or '{two}'.*as root"):
        found(tmp_path)


def test_links_are_followed_and_keep_their_names(tmp_path):
    real = place(tmp_path / "elsewhere", "x")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "Caltech101").symlink_to(real)
    assert found(tmp_path / "root") == tmp_path / "root" / "Caltech101"
    (tmp_path / "root" / "CALTECH101").symlink_to(real)
    assert found(tmp_path / "root").samefile(real)


def test_hidden_folders_and_folders_without_marks_do_not_count(tmp_path):
    place(tmp_path, ".caltech-101")
    (tmp_path / "caltech-101").mkdir()
    with pytest.raises(FileNotFoundError) as error:
        found(tmp_path)
    for part in ("caltech-101", "Caltech_101/data", *MARKS, "https://example.org", str(tmp_path)):
        assert part in str(error.value)


def test_without_a_root_the_message_says_how_to_give_one():
    with pytest.raises(FileNotFoundError, match=r"root=.*caltech-101/ or .*FEWSHOT_DATA_ROOT"):
        find_folder(SPEC, marks=MARKS)


def test_a_root_that_is_not_there_is_a_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        found(tmp_path / "nowhere" / "at" / "all")


def test_long_lists_are_cut_with_their_count(tmp_path):
    with pytest.raises(FileNotFoundError, match="mark 11 and 88 more in each"):
        find_folder(SPEC.at(tmp_path), marks=[f"mark {number}" for number in range(100)])
