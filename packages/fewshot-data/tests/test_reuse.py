"""Draws that lie in a file: found again wherever the data is, refused where they do not fit."""

import json

import pytest

from fewshot_data import few_shot, load_spec
from fewshot_data.drawn_split import split_table, write_drawn
from fewshot_data.made import make
from fewshot_data.reuse import few_shot_from


@pytest.fixture
def dtd(tmp_path):
    return make(load_spec("dtd"), tmp_path / "data").parent


@pytest.mark.parametrize("protocol", ["nested", "coop", "so"])
def test_a_draw_is_taken_from_its_file_wherever_the_data_lies(protocol, dtd, tmp_path):
    data = few_shot("dtd", 2, seed=3, protocol=protocol, root=dtd)
    path = write_drawn(split_table(data), tmp_path / "split.json")
    moved = make(load_spec("dtd"), tmp_path / "moved", layout="so").parent
    again = few_shot_from(path, "dtd", root=moved)
    for part in ("train", "val", "test"):
        one, other = getattr(data, part), getattr(again, part)
        assert [data.names[i] for i in one.indices] == [again.names[i] for i in other.indices]
    assert (again.shots, again.seed, again.protocol) == (2, 3, protocol)
    assert str(again.train.samples.paths[0]).startswith(str(moved))


def test_halves_of_a_draw_in_a_file_are_those_of_the_draw(dtd, tmp_path):
    path = write_drawn(split_table(few_shot("dtd", 2, seed=1, root=dtd)), tmp_path / "split.json")
    new = few_shot_from(path, "dtd", root=dtd, subsample="new")
    assert new.train.indices == few_shot("dtd", 2, seed=1, root=dtd, subsample="new").train.indices


def test_a_draw_of_half_the_classes_is_refused(dtd, tmp_path):
    data = few_shot("dtd", 1, seed=1, root=dtd, subsample="new")
    path = write_drawn(split_table(data), tmp_path / "split.json")
    with pytest.raises(ValueError, match="give a draw over all classes"):
        few_shot_from(path, "dtd", root=dtd)


def test_samples_that_are_not_there_are_counted(dtd, tmp_path):
    path = tmp_path / "split.json"
    table = {"train": [["a/1.jpg", 0, "a"], ["a/2.jpg", 0, "a"]], "val": []}
    path.write_text(json.dumps(table))
    with pytest.raises(ValueError, match=r"2 of 2 samples are not in dataset 'dtd'.*'a/1\.jpg'"):
        few_shot_from(path, "dtd", root=dtd)
    path.write_text(json.dumps({**table, "meta": {"seed": "one"}}))
    with pytest.raises(ValueError, match=r"meta\.seed is 'one'"):
        few_shot_from(path, "dtd", root=dtd)
