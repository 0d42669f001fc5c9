"""VTAB-1k: stages, counts, incomplete copies, broken lists, the two averages."""

import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewshot_data import few_shot, list_datasets
from fewshot_data.vtab_means import vtab_means

from .listed_copies import make, opened, outcome_of
from .mutations import mutated

TASKS = [spec for spec in list_datasets() if spec.source == "vtab"]


def folders(raw, indices):
    return {raw.names[i].rsplit("/", 1)[0] for i in indices}


def test_there_are_7_natural_4_specialized_and_8_structured_tasks():
    groups = [spec.group for spec in TASKS]
    assert {group: groups.count(group) for group in groups} == {
        "vtab-natural": 7,
        "vtab-specialized": 4,
        "vtab-structured": 8,
    }


def test_the_final_run_learns_from_1000_and_the_search_never_sees_the_test(tmp_path):
    make("vtab-svhn", tmp_path)
    final, search = opened("vtab-svhn", tmp_path), opened("vtab-svhn", tmp_path, stage="search")
    assert folders(final, final.train_indices) == {"images/train800val200"}
    assert folders(final, final.test_indices) == {"images/test"}
    assert folders(search, search.train_indices) == {"images/train800"}
    assert folders(search, search.test_indices) == {"images/val200"}
    assert "images/test" not in folders(search, range(len(search.names)))
    assert (final.val_indices, search.val_indices) == ([], [])
    assert final.official is not None
    assert final.official(-1, 5) == final.train_indices
    with pytest.raises(ValueError, match="option 'stage' is 'finale': give 'final' or 'search'"):
        opened("vtab-svhn", tmp_path, stage="finale")


def test_classes_come_from_the_registry_and_not_from_the_labels(tmp_path):
    make("vtab-sun397", tmp_path)
    raw = opened("vtab-sun397", tmp_path)
    assert len(raw.class_names) == 397
    assert max(raw.labels) == 3


def test_a_label_beyond_the_classes_shows_another_tasks_list(tmp_path):
    folder = make("vtab-kitti", tmp_path)
    (folder / "test.txt").write_text("images/test/000000.jpg 3\nimages/test/000001.jpg 4\n")
    with pytest.raises(ValueError, match=r"test\.txt', entry 2: label 4 .* only 4 classes"):
        opened("vtab-kitti", tmp_path)


def test_line_ends_do_not_matter_and_the_last_space_separates(tmp_path):
    plain, windows = tmp_path / "plain", tmp_path / "windows"
    make("vtab-dmlab", plain), make("vtab-dmlab", windows, "crlf")
    assert b"\r\n\r\n" in (windows / "vtab-1k/dmlab/test.txt").read_bytes()
    assert opened("vtab-dmlab", plain).names == opened("vtab-dmlab", windows).names
    folder = plain / "vtab-1k/dmlab"
    (folder / "images/test/000000.jpg").rename(folder / "images/test/0 0.jpg")
    (folder / "test.txt").write_text("images/test/0 0.jpg 5\n")
    raw = opened("vtab-dmlab", plain)
    assert (raw.names[-1], raw.labels[-1]) == ("images/test/0 0.jpg", 5)


@pytest.mark.parametrize("place", ["vtab-1k", "vtab", "", "data/vtab-1k"])
@pytest.mark.parametrize("task", ["cifar", "cifar100"])
def test_every_root_that_releases_use_is_found(tmp_path, place, task):
    folder = make("vtab-cifar", tmp_path / "made")
    target = tmp_path / "root" / place / task
    target.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(target)
    where = tmp_path / "root" / ("data" if place.startswith("data") else "")
    assert len(opened("vtab-cifar", where).names) == 15


def test_the_coop_folder_of_the_same_name_is_not_taken_for_the_task(tmp_path):
    make("vtab-dtd", tmp_path)
    (tmp_path / "dtd" / "images").mkdir(parents=True)
    assert len(opened("vtab-dtd", tmp_path).names) == 15


def test_a_copy_with_some_tasks_says_which_are_missing(tmp_path):
    for name in ("vtab-cifar", "vtab-svhn"):
        make(name, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"19 tasks 2 are there and 17 are missing: .*dtd"):
        opened("vtab-dtd", tmp_path)


def test_an_incomplete_archive_is_refused_before_a_run(tmp_path):
    folder = make("vtab-dtd", tmp_path)
    shutil.rmtree(folder / "images/test")
    with pytest.raises(FileNotFoundError, match=r"5 of 15 listed files are missing.*every piece"):
        opened("vtab-dtd", tmp_path)
    (folder / "val200.txt").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"no list '.*val200\.txt': the task holds test\.txt"
    ):
        opened("vtab-dtd", tmp_path)


def test_counts_are_compared_and_strictness_refuses_them(tmp_path, caplog):
    make("vtab-dtd", tmp_path)
    opened("vtab-dtd", tmp_path)
    for text in ("train800.txt has 8 lines instead of 800", "val200.txt has 2", "test split has 5"):
        assert text in caplog.text
    with pytest.raises(ValueError, match=r"train800\.txt has 8 lines.*strict=True"):
        opened("vtab-dtd", tmp_path, strict=True)


def test_a_whole_copy_passes_strictly(tmp_path):
    folder = make("vtab-kitti", tmp_path)
    for name, size in {"train800": 800, "val200": 200, "train800val200": 1000, "test": 711}.items():
        lines = [f"images/{name}/{number:06d}.jpg {number % 4}\n" for number in range(size)]
        (folder / f"{name}.txt").write_text("".join(lines))
        for line in lines:
            (folder / line.rsplit(" ", 1)[0]).touch()
    raw = opened("vtab-kitti", tmp_path, strict=True)
    assert (len(raw.train_indices), len(raw.test_indices)) == (1000, 711)


def test_the_result_says_that_images_are_lossy(tmp_path):
    make("vtab-cifar", tmp_path)
    data = few_shot("vtab-cifar", 0, seed=0, root=tmp_path)
    assert "JPEG" in data.origin
    assert all("lossy JPEG" in spec.notes for spec in TASKS)


BROKEN = {
    b"": "is empty",
    b"images/test/000000.jpg\n": "is not '<path> <label>'",
    b"images/test/000000.jpg -1\n": "is not '<path> <label>'",
    b"images/test/000000.jpg 1.0\n": "is not '<path> <label>'",
    b" 3\n": "is not '<path> <label>'",
    b"/etc/passwd 0\n": "leaves the dataset's folder",
    b"images/../../x.jpg 0\n": "leaves the dataset's folder",
    b"\xff\xfe 0\n": "not UTF-8",
    b"a\0.jpg 0\n": "is no path",
}


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_list_is_named(tmp_path, content):
    folder = make("vtab-dtd", tmp_path)
    (folder / "test.txt").write_bytes(content)
    with pytest.raises(ValueError, match=rf"test\.txt'.*{BROKEN[content]}"):
        opened("vtab-dtd", tmp_path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_mutated_lines_never_raise_anything_but_our_errors(tmp_path, data):
    folder = tmp_path / "vtab-1k" / "dtd"
    if not folder.exists():
        make("vtab-dtd", tmp_path)
        (folder / "kept").write_bytes((folder / "test.txt").read_bytes())
    content = mutated(data, (folder / "kept").read_bytes(), times=4, cut=30, grown=300)
    (folder / "test.txt").write_bytes(content)
    assert outcome_of("vtab-dtd", tmp_path, "test_indices")


def test_the_two_averages_are_named_and_differ():
    scores = {spec.name: 10.0 * len(spec.group) + i for i, spec in enumerate(TASKS)}
    means = vtab_means(scores)
    groups = ("natural", "specialized", "structured")
    by_hand = {
        group: sum(scores[s.name] for s in TASKS if s.group == f"vtab-{group}")
        / sum(s.group == f"vtab-{group}" for s in TASKS)
        for group in groups
    }
    assert {group: means[group] for group in groups} == pytest.approx(by_hand)
    assert means["mean of three group means"] == pytest.approx(sum(by_hand.values()) / 3)
    assert means["mean of 19 tasks"] == pytest.approx(sum(scores.values()) / 19)
    assert means["mean of three group means"] != pytest.approx(means["mean of 19 tasks"])


def test_averages_take_folder_names_and_refuse_gaps():
    scores = {spec.name.removeprefix("vtab-"): 1.0 for spec in TASKS}
    assert vtab_means(scores)["mean of 19 tasks"] == 1.0
    with pytest.raises(ValueError, match="holds 'vtab-cifar' twice"):
        vtab_means({**scores, "vtab-cifar": 1.0})
    del scores["dtd"]
    with pytest.raises(ValueError, match="lacks 1 of 19 tasks: vtab-dtd"):
        vtab_means(scores)
    with pytest.raises(ValueError, match="'digits', which is dataset 'digits' and no VTAB-1k task"):
        vtab_means({"digits": 1.0})
