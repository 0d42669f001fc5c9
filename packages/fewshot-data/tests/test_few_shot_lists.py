"""NOAH's few-shot lists: draws, repeats, prefixes, shifts, broken lists."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewshot_data import few_shot, list_datasets, load_spec

from .listed_copies import make, opened, outcome_of
from .mutations import mutated

LISTS = [spec for spec in list_datasets() if spec.source == "few-shot-lists"]
DRAWN = [spec.name for spec in LISTS if "train" in spec.splits]
SHIFTS = [spec.name for spec in LISTS if "train" not in spec.splits]


def lines(path):
    return [tuple(line.rsplit(" ", 1)) for line in path.read_text().splitlines()]


def test_the_six_sets_of_snell_and_the_four_shifts_are_there():
    assert len(DRAWN) == 6
    assert len(SHIFTS) == 4
    for key in ("stanford_cars", "oxford_flowers", "food-101", "oxford_pets", "fgvc_aircraft"):
        assert load_spec(f"{key}-FS").name == f"fs-{key}"


@pytest.mark.parametrize("name", DRAWN)
def test_every_draw_is_the_list_of_its_shots_and_seed(tmp_path, name):
    folder = make(name, tmp_path)
    raw = opened(name, tmp_path)
    assert raw.official is not None
    for shots in (1, 2, 4, 8, 16):
        for seed in (0, 1, 2):
            path = folder / "annotations" / f"train_meta.list.num_shot_{shots}.seed_{seed}"
            drawn = [(raw.names[i], str(raw.labels[i])) for i in raw.official(shots, seed)]
            assert drawn == lines(path)


@pytest.mark.parametrize("name", DRAWN)
def test_a_draw_that_no_list_holds_says_which_there_are(tmp_path, name):
    make(name, tmp_path)
    official = opened(name, tmp_path).official
    assert official is not None
    for shots, seed in ((3, 0), (1, 3), (-1, 0)):
        with pytest.raises(ValueError, match=r"shots 1, 2, 4, 8, 16 and seeds 0, 1, 2"):
            official(shots, seed)


def test_repeats_of_the_pets_are_kept(tmp_path):
    folder = make("fs-oxford_pets", tmp_path)
    raw = opened("fs-oxford_pets", tmp_path)
    assert raw.official is not None
    drawn = raw.official(1, 0)
    assert len(drawn) == 8 == 2 * len(set(drawn))
    assert len(set(raw.names)) == len(raw.names)
    whole = folder / "annotations" / "train_meta.list"
    whole.write_bytes((folder / "annotations/train_meta.list.num_shot_16.seed_0").read_bytes())
    again = opened("fs-oxford_pets", tmp_path).official
    assert again is not None
    assert len(again(-1, 0)) == 64


@pytest.mark.parametrize(
    ("name", "train", "test"),
    [
        ("fs-stanford_cars", "cars_train", "cars_test"),
        ("fs-food-101", "images", "images"),
        ("fs-imagenet", "train", "val"),
    ],
)
def test_prefixes_are_the_datasets_own(tmp_path, name, train, test):
    folder = make(name, tmp_path / "stanford_cars")  # a path that misleads the releases
    raw = opened(name, tmp_path / "stanford_cars")
    paths = raw.samples.paths
    assert {paths[i].relative_to(folder).parts[0] for i in raw.train_indices} == {train}
    assert {paths[i].relative_to(folder).parts[0] for i in raw.test_indices} == {test}


def test_imagenet_is_measured_on_its_validation_list_and_others_keep_theirs(tmp_path):
    make("fs-imagenet", tmp_path), make("fs-food-101", tmp_path)
    imagenet, food = opened("fs-imagenet", tmp_path), opened("fs-food-101", tmp_path)
    assert imagenet.val_indices == []
    assert len(imagenet.test_indices) == 8
    assert (len(food.val_indices), len(food.test_indices)) == (8, 8)


def test_sorted_validation_images_of_imagenet_are_found(tmp_path):
    folder = made_wnids(tmp_path)
    raw = opened("fs-imagenet", tmp_path)
    assert [raw.names[i] for i in raw.test_indices] == ["ILSVRC2012_val_1.JPEG"]
    (folder / "val/n01440764").mkdir()
    (folder / "val/ILSVRC2012_val_1.JPEG").rename(folder / "val/n01440764/ILSVRC2012_val_1.JPEG")
    raw = opened("fs-imagenet", tmp_path)
    assert [raw.names[i] for i in raw.test_indices] == ["n01440764/ILSVRC2012_val_1.JPEG"]
    assert raw.class_names == ("n01440764", "n01443537")


def made_wnids(root):
    folder = root / "imagenet"
    rows = [("n01440764", 0), ("n01443537", 1)]
    for wnid, _ in rows:
        (folder / "train" / wnid).mkdir(parents=True)
        (folder / "train" / wnid / "1.JPEG").touch()
    (folder / "val").mkdir()
    (folder / "val/ILSVRC2012_val_1.JPEG").touch()
    (folder / "annotations").mkdir()
    text = "".join(f"{wnid}/1.JPEG {label}\n" for wnid, label in rows)
    (folder / "annotations/train_meta.list.num_shot_1.seed_0").write_text(text)
    (folder / "annotations/val_meta.list").write_text("ILSVRC2012_val_1.JPEG 0\n")
    return folder


@pytest.mark.parametrize("name", SHIFTS)
def test_shifts_are_test_sets_in_imagenets_labels(tmp_path, name):
    make(name, tmp_path)
    raw = opened(name, tmp_path)
    assert (raw.train_indices, raw.val_indices) == ([], [])
    assert len(raw.class_names) == 1000
    data = few_shot(name, 0, seed=0, root=tmp_path)
    assert (len(data.train), len(data.test)) == (0, 8)


@pytest.mark.parametrize(
    "alias",
    ["standford-cars", "few-shot/stanford_cars-FS", "stanford_cars", "few-shot/standford-cars"],
)
def test_folders_of_noah_and_snell_are_found(tmp_path, alias):
    folder = make("fs-stanford_cars", tmp_path / "made")
    (tmp_path / "data" / alias).parent.mkdir(parents=True)
    folder.rename(tmp_path / "data" / alias)
    assert opened("fs-stanford_cars", tmp_path / "data").train_indices


def test_flowers_in_coops_folder_are_found(tmp_path):
    folder = make("fs-oxford_flowers", tmp_path)
    (folder / "images").rename(folder / "jpg")
    assert opened("fs-oxford_flowers", tmp_path).samples.paths[0].parent.name == "jpg"


def test_other_protocols_draw_from_all_listed_images(tmp_path):
    make("fs-food-101", tmp_path)
    data = few_shot("fs-food-101", 4, seed=9, root=tmp_path)
    assert len(data.train) == 16


def test_lists_that_disagree_are_refused(tmp_path):
    folder = make("fs-food-101", tmp_path)
    path = folder / "annotations/train_meta.list.num_shot_1.seed_0"
    name, label = lines(path)[0]
    path.write_text(f"{name} {int(label) + 1}\n")
    with pytest.raises(
        ValueError, match=r"lists disagree on 'train 0, .*label 1 and label 0|label 0 and label 1"
    ):
        opened("fs-food-101", tmp_path)


def test_a_label_beyond_the_classes_shows_another_datasets_lists(tmp_path):
    folder = make("fs-oxford_pets", tmp_path)
    (folder / "annotations/val_meta.list").write_text("train 0, 0.jpg 37\n")
    with pytest.raises(ValueError, match=r"has 37 classes, but a list gives .* the label 37"):
        opened("fs-oxford_pets", tmp_path)


def test_an_absent_test_list_says_what_is_there_and_where_lists_live(tmp_path):
    folder = make("fs-oxford_pets", tmp_path)
    (folder / "annotations/test_meta.list").unlink()
    with pytest.raises(FileNotFoundError, match=r"no list '.*test_meta\.list'.*NOAH under data/"):
        opened("fs-oxford_pets", tmp_path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_mutated_lists_never_raise_anything_but_our_errors(tmp_path, data):
    folder = tmp_path / load_spec("fs-imagenet").folders[0] / "annotations"
    if not folder.exists():
        make("fs-imagenet", tmp_path)
        (folder / "kept").write_bytes((folder / "val_meta.list").read_bytes())
    content = mutated(data, (folder / "kept").read_bytes(), times=4, cut=30, grown=300)
    (folder / "val_meta.list").write_bytes(content)
    assert outcome_of("fs-imagenet", tmp_path, "test_indices")
