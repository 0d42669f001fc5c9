"""FGVC-5 in VPT's JSON form: ids, prefixes, numberings, broken files."""

import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewshot_data import few_shot, load_spec
from fewshot_data.fgvc import read_json

from .listed_copies import FGVC, labelled, make, names_of, opened, outcome_of
from .mutations import mutated


def rewrite(path, change):
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


@pytest.mark.parametrize("name", FGVC)
def test_splits_labels_and_order_are_those_of_the_files(tmp_path, name):
    folder = make(name, tmp_path)
    raw = opened(name, tmp_path)
    for split, indices in (
        ("train", raw.train_indices),
        ("val", raw.val_indices),
        ("test", raw.test_indices),
    ):
        file = {k: int(v) for k, v in json.loads((folder / f"{split}.json").read_text()).items()}
        assert names_of(raw, indices) == list(file)
        ids = sorted({*file.values(), *range(0)})
        assert [raw.labels[i] for i in indices] == [ids.index(v) for v in file.values()]
    assert raw.published
    assert raw.official is not None
    assert raw.official(-1, 0) == raw.train_indices


def test_sparse_ids_share_one_map_even_where_a_split_lacks_a_class(tmp_path, caplog):
    folder = make("fgvc-nabirds", tmp_path)
    for split in ("val", "test"):  # without the first class, a map per split would shift the rest
        rewrite(folder / f"{split}.json", lambda ids: {k: v for k, v in ids.items() if int(v) != 0})
    raw = opened("fgvc-nabirds", tmp_path)
    assert {raw.labels[i] for i in raw.test_indices} == {1, 2}
    assert {raw.labels[i] for i in raw.val_indices} == {1}
    assert "the test split lacks 1 of 3 classes" in caplog.text


def test_a_class_that_only_the_test_split_has_does_not_move_the_others(tmp_path):
    folder = make("fgvc-cub", tmp_path)
    rewrite(folder / "train.json", lambda ids: {k: v for k, v in ids.items() if v != 817})
    raw = opened("fgvc-cub", tmp_path)
    assert {raw.labels[i] for i in raw.train_indices} == {0, 2}


@pytest.mark.parametrize("prefixed", [False, True])
def test_keys_may_carry_the_image_folder_or_not(tmp_path, prefixed):
    folder = make("fgvc-cub", tmp_path)
    if prefixed:
        for split in ("train", "val", "test"):
            rewrite(
                folder / f"{split}.json", lambda ids: {f"images/{k}": v for k, v in ids.items()}
            )
    raw = opened("fgvc-cub", tmp_path)
    assert all(path.is_file() for path in raw.samples.paths)
    assert raw.names[0].startswith("images/") is prefixed


def test_the_prefix_is_decided_once_so_a_stray_file_cannot_change_it(tmp_path):
    folder = make("fgvc-cub", tmp_path)
    first, second = list(json.loads((folder / "train.json").read_text()))[:2]
    (folder / "images" / first).unlink()
    (folder / second).parent.mkdir(parents=True)
    (folder / second).touch()
    with pytest.raises(FileNotFoundError, match="1 of 22 listed files are missing"):
        opened("fgvc-cub", tmp_path)


def test_training_on_train_and_val_as_gps_and_ssf_do(tmp_path):
    make("fgvc-cub", tmp_path)
    alone, both = opened("fgvc-cub", tmp_path), opened("fgvc-cub", tmp_path, train="train+val")
    assert names_of(both, both.train_indices) == [
        *names_of(alone, alone.train_indices),
        *names_of(alone, alone.val_indices),
    ]
    assert both.val_indices == []
    assert not both.published


def test_a_reduced_training_file_keeps_the_labels_of_the_whole_one(tmp_path):
    folder = make("fgvc-cub", tmp_path)
    ids = json.loads((folder / "train.json").read_text())
    few = {name: number for name, number in ids.items() if number == 1010}
    for split in ("val", "test"):  # so that only the whole training file knows the first class
        rewrite(folder / f"{split}.json", lambda ids: {k: v for k, v in ids.items() if int(v) != 0})
    (folder / "train_0.1.json").write_text(json.dumps(few))
    raw = opened("fgvc-cub", tmp_path, train="train_0.1")
    assert labelled(raw, raw.train_indices) == [(name, 2) for name in few]
    with pytest.raises(ValueError, match=r"no train_0\.2\.json; it can be train, train_0\.1 or tr"):
        opened("fgvc-cub", tmp_path, train="train_0.2")


@pytest.mark.parametrize("listed", ["car_ims", "cars_train"])
def test_the_other_numbering_of_the_cars_is_recognised(tmp_path, listed):
    folder = make("fgvc-stanfordcar", tmp_path)
    other = "cars_train" if listed == "car_ims" else "car_ims"
    for split in ("train", "val", "test"):
        rewrite(
            folder / f"{split}.json",
            lambda ids: {k.replace("car_ims", listed): v for k, v in ids.items()},
        )
    if listed == "car_ims":
        (folder / "car_ims").rename(folder / other)
    fits = "fit car_ims" if listed == "car_ims" else "fit cars_train"
    with pytest.raises(FileNotFoundError, match=rf"list {listed}/.*there are {other}/.*{fits}"):
        opened("fgvc-stanfordcar", tmp_path)


@pytest.mark.parametrize(
    "alias", ["cub", "CUB_200_2011", "CUB", "cub200", "fgvc/CUB_200_2011", "fgvc/cub"]
)
def test_folders_of_vpt_gps_and_snell_are_found(tmp_path, alias):
    folder = make("fgvc-cub", tmp_path / "made")
    (tmp_path / "data" / alias).parent.mkdir(parents=True)
    folder.rename(tmp_path / "data" / alias)
    assert len(opened("fgvc-cub", tmp_path / "data").train_indices) == 12


def test_names_of_the_papers_lead_to_the_dataset():
    for name in FGVC:
        assert load_spec(name.removeprefix("fgvc-")).name == name


def test_shots_are_drawn_from_the_training_split_only(tmp_path):
    make("fgvc-stanforddog", tmp_path)
    data = few_shot("fgvc-stanforddog", 4, seed=1, root=tmp_path)
    raw = opened("fgvc-stanforddog", tmp_path)
    assert set(data.train.indices) == set(raw.train_indices)
    assert data.class_names == ("Chihuahua", "Shih-Tzu", "African_hunting_dog")
    assert data.prompt_names[2] == "African hunting dog"


def test_the_data_fixes_no_few_shot_sets(tmp_path):
    make("fgvc-cub", tmp_path)
    official = opened("fgvc-cub", tmp_path).official
    assert official is not None
    with pytest.raises(ValueError, match=r"one training set of 12.*shots is 4: give shots=-1"):
        official(4, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("[]", "must be one JSON object"),
        ("{}", "must be one JSON object"),
        ('{"a.jpg": 1.5}', "entry 1: the class id is '1.5'"),
        ('{"a.jpg": 1, "b.jpg": true}', "entry 2: the class id is 'True'"),
        ('{"a.jpg": "one"}', "the class id is 'one'"),
        ('{"a.jpg": "²"}', "the class id is '²'"),
        ('{"a.jpg": -1}', "the class id is '-1'"),
        ('{"a.jpg": [1]}', "the class id is"),
        ('{"/etc/passwd": 1}', "leaves the dataset's folder"),
        ('{"C:\\\\a.jpg": 1}', "leaves the dataset's folder"),
        ('{"a/../../b.jpg": 1}', "leaves the dataset's folder"),
        ('{"a.jpg": 1, "./a.jpg": 2}', "listed twice"),
        ('{"": 1}', "is no path"),
        ("[" * 100_000, "not valid JSON"),
        ('{"a.jpg": ' + "9" * 5000 + "}", "not valid JSON|class id"),
    ],
)
def test_a_broken_split_file_is_named_with_its_entry(tmp_path, text, message):
    path = tmp_path / "train.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"train\.json'.*{message}"):
        read_json(path)


def test_backslashes_become_slashes_and_non_ascii_names_are_kept(tmp_path):
    path = tmp_path / "train.json"
    path.write_text(json.dumps({"vögel\\eule.jpg": 3}))
    assert read_json(path) == [("vögel/eule.jpg", 3)]


def test_a_missing_split_file_is_named(tmp_path):
    (make("fgvc-cub", tmp_path) / "val.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no split file '.*val\.json'"):
        opened("fgvc-cub", tmp_path)


def test_unknown_options_say_what_they_can_be(tmp_path):
    make("fgvc-cub", tmp_path)
    with pytest.raises(ValueError, match="'layout' is 'gps': give 'vpt' or 'official'"):
        opened("fgvc-cub", tmp_path, layout="gps")
    with pytest.raises(ValueError, match="'style' is 'birds': give cub, dogs"):
        opened("fgvc-cub", tmp_path, style="birds")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_mutated_json_never_raises_anything_but_our_errors(tmp_path, data):
    folder = tmp_path / "fgvc" / "cub"
    if not folder.exists():
        make("fgvc-cub", tmp_path)
        (folder / "kept").write_bytes((folder / "train.json").read_bytes())
    content = mutated(data, (folder / "kept").read_bytes(), times=4, cut=30, grown=300)
    (folder / "train.json").write_bytes(content)
    assert outcome_of("fgvc-cub", tmp_path, "train_indices")


def test_a_spec_may_be_changed_and_handed_over(tmp_path):
    make("fgvc-cub", tmp_path)
    spec = load_spec("cub")
    spec = replace(spec, options={**spec.options, "train": "train+val"})
    assert few_shot(spec, 1, seed=1, root=tmp_path).val is None
