"""Lists of image paths: what a path may be, what is missing, what classes are called."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot_data.listed import absent, class_names, read_lines, require_files, safe_path


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("a/b.jpg", "a/b.jpg"),
        ("a\\b.jpg", "a/b.jpg"),
        ("./a//b.jpg", "a/b.jpg"),
        ("a b/c, d.jpg", "a b/c, d.jpg"),
        ("vögel/日本.jpg", "vögel/日本.jpg"),
        ("..a/b..jpg", "..a/b..jpg"),
    ],
)
def test_paths_are_kept_with_slashes(written, kept):
    assert safe_path(written, "list") == kept


@pytest.mark.parametrize("written", ["/a", "\\a", "C:/a", "c:a", "../a", "a/../../b", "a/.."])
def test_paths_that_leave_the_folder_are_refused(written):
    with pytest.raises(ValueError, match=r"^list: the path .* leaves the dataset's folder"):
        safe_path(written, "list")


@pytest.mark.parametrize("written", ["", " ", "/", ".", "./", "a\0b"])
def test_what_is_no_path_is_refused(written):
    with pytest.raises(ValueError, match=r"^list: .* is no path"):
        safe_path(written, "list")


@given(st.text())
def test_a_safe_path_stays_inside_whatever_is_written(text):
    try:
        path = safe_path(text, "list")
    except ValueError:
        return
    inside = os.path.normpath(f"/data/{path}")
    assert inside.startswith("/data/")
    assert safe_path(path, "list") == path


def test_missing_files_are_named_once_and_links_count_as_files(tmp_path):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "link.jpg").symlink_to(tmp_path / "a.jpg")
    gone = tmp_path / "no" / "b.jpg"
    paths = [tmp_path / "a.jpg", gone, gone, tmp_path / "link.jpg"]
    assert absent(paths) == [gone]
    with pytest.raises(
        FileNotFoundError, match=r"^toy: 1 of 3 listed files are missing: .*; copy it"
    ):
        require_files(paths, owner="toy", fix="copy it")


def test_ten_missing_files_are_shown_and_the_rest_counted():
    paths = [Path("no") / f"{number}.jpg" for number in range(25)]
    with pytest.raises(FileNotFoundError, match=r"25 of 25 .*9\.jpg and 15 more; copy it"):
        require_files(paths, owner="toy", fix="copy it")


def test_a_byte_order_mark_and_blank_lines_do_not_matter(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfa 1\r\n\r\n  \nb 2")
    assert read_lines(tmp_path / "list.txt") == ["a 1", "b 2"]


def test_classes_are_called_by_given_names_folders_or_numbers():
    assert class_names(["x/1.jpg", "y/2.jpg"], [0, 1], [5, 7], {}) == ("x", "y")
    assert class_names(["x/1.jpg", "x/2.jpg"], [0, 1], [5, 7], {}) == ("class 5", "class 7")
    assert class_names(["x/1.jpg", "y/2.jpg"], [0, 0], [5], {}) == ("class 5",)
    assert class_names(["1.jpg", "2.jpg"], [0, 1], [5, 7], {}) == ("class 5", "class 7")
    assert class_names(["x/1.jpg", "y/2.jpg"], [0, 1], [5, 7], {5: "five"}) == ("five", "class 7")
    assert class_names(["1.Owl/1.jpg", "2.Owl/2.jpg"], [0, 1], [1, 2], {}) == ("class 1", "class 2")
