"""Draws as files: written and read back, CoOp's pickles without running them, halves of classes."""

import json
import pickle
import sys
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewshot_data import few_shot, load_spec
from fewshot_data.base_new import cross_dataset, harmonic_mean
from fewshot_data.coop_pickles import MODULE, read_pickle
from fewshot_data.drawn_split import read_drawn, split_table, write_drawn
from fewshot_data.made import make


@pytest.fixture
def dtd(tmp_path):
    return make(load_spec("dtd"), tmp_path / "data").parent


def test_a_draw_survives_its_file(dtd, tmp_path):
    data = few_shot("dtd", 8, seed=1, protocol="so", root=dtd)  # classes are filled up by repeats
    items, meta = read_drawn(write_drawn(split_table(data), tmp_path / "out" / "split.json"))
    assert [item.path for item in items["train"]] == [data.names[i] for i in data.train.indices]
    assert [item.label for item in items["val"]] == [data.val.labels[i] for i in data.val.indices]
    assert (meta["dataset"], meta["shots"], meta["protocol"]) == ("dtd", 8, "so")
    assert "split_zhou_DescribableTextures.json" in meta["origin"]


def test_writing_replaces_a_file_whole(dtd, tmp_path):
    path = write_drawn(split_table(few_shot("dtd", 1, seed=1, root=dtd)), tmp_path / "split.json")
    before = path.read_text()
    with pytest.raises(TypeError):
        write_drawn({"train": object()}, path)
    assert path.read_text() == before
    assert [one.name for one in tmp_path.iterdir() if one.is_file()] == ["split.json"]


class Datum:
    """As Dassl's: pickled under its module's name."""

    def __init__(self, path, label, name):
        self._impath, self._label, self._domain, self._classname = path, label, 0, name


@pytest.fixture
def dassl(monkeypatch):
    for name in ("dassl", "dassl.data", "dassl.data.datasets", MODULE):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(Datum, "__module__", MODULE)
    monkeypatch.setattr(sys.modules[MODULE], "Datum", Datum, raising=False)
    return Datum


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_cached_draws_of_coop_are_read_and_moved(dassl, tmp_path, protocol):
    old = "/home/somebody/DATA/dtd/images"
    train = [dassl(f"{old}/banded/banded_0117.jpg", 0, "banded")]
    val = [dassl("C:\\data\\dtd\\images\\dotted\\dotted_1.jpg", 1, "dotted")]
    path = tmp_path / "shot_1-seed_1.pkl"
    path.write_bytes(pickle.dumps({"train": train, "val": val}, protocol=protocol))
    table = read_pickle(path, "images")
    assert table["train"] == [["banded/banded_0117.jpg", 0, "banded"]]
    assert table["val"] == [["dotted/dotted_1.jpg", 1, "dotted"]]
    items, _ = read_drawn(write_drawn(table, tmp_path / "shot_1-seed_1.json"))
    assert items["train"][0].name == "banded"
    with pytest.raises(ValueError, match="has no folder 'jpg'"):
        read_pickle(path, "jpg")


class Harmful:
    def __init__(self, flag):
        self.flag = flag

    def __reduce__(self):
        return (open, (self.flag, "w"))


def test_harmful_pickles_are_refused_and_not_run(tmp_path):
    flag, path = tmp_path / "flag", tmp_path / "shot_1-seed_1.pkl"
    path.write_bytes(pickle.dumps({"train": [Harmful(str(flag))]}))
    with pytest.raises(ValueError, match=r"asks for '.*open', which a draw of CoOp does not need"):
        read_pickle(path, "images")
    assert not flag.exists()


@given(st.binary(max_size=80))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_crash_the_reader(tmp_path, content):
    path = tmp_path / "cache.pkl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cache\.pkl|asks for"):
        read_pickle(path, "images")


def test_records_that_are_not_what_they_should_be_are_named(dassl, tmp_path):
    path = tmp_path / "cache.pkl"
    path.write_bytes(pickle.dumps({"train": [dassl("/a/images/b.jpg", "0", "owl")]}))
    with pytest.raises(ValueError, match="_label is '0', not a int"):
        read_pickle(path, "images")


def test_base_and_new_classes_share_the_draw(dtd):
    whole, base, new = (
        few_shot("dtd", 2, seed=1, root=dtd, subsample=which) for which in ("all", "base", "new")
    )
    assert base.class_names + new.class_names == whole.class_names
    assert set(base.train.indices) | set(new.train.indices) == set(whole.train.indices)
    assert not set(base.test.indices) & set(new.test.indices)
    for part in (new.train, new.test, new.val):
        assert {part.labels[i] for i in part.indices} == {0, 1}
    assert new.train[0]["label"] == 0


def test_an_odd_number_of_classes_gives_base_one_more():
    data = few_shot("unicode-names", 1, seed=1)
    count = len(data.class_names)
    halves = [few_shot("unicode-names", 1, seed=1, subsample=half) for half in ("base", "new")]
    assert [len(half.class_names) for half in halves] == [-(-count // 2), count // 2]
    with pytest.raises(ValueError, match="subsample is 'old'"):
        few_shot("unicode-names", 1, seed=1, subsample="old")


def test_the_harmonic_mean_is_below_the_mean():
    assert harmonic_mean(0.8, 0.6) == pytest.approx(2 / (1 / 0.8 + 1 / 0.6))
    assert harmonic_mean(0.0, 0.0) == 0.0
    with pytest.raises(ValueError, match="negative"):
        harmonic_mean(-0.1, 0.5)


def test_cross_dataset_goes_from_imagenet_to_the_other_ten_and_the_shifts():
    source, targets = cross_dataset()
    assert source == "imagenet"
    assert len(targets) == 14
    assert {"fgvc", "sun397", "imagenet_r"} <= set(targets)


def test_samples_without_files_are_named_by_their_place():
    table = split_table(few_shot("digits", 1, seed=1))
    assert all(name.startswith("#") for name, _, _ in table["train"])
    json.dumps(table)
