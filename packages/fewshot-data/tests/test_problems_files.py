"""What users run into with files: problems 1 to 16 and 32 of the data specification, by number."""

import json

import numpy as np
import pytest

from fewshot_data import few_shot, load_spec
from fewshot_data.check import check_dataset
from fewshot_data.imagenet_names import installed_names
from fewshot_data.images import read_image
from fewshot_data.made import make
from fewshot_data.made.pictures import picture
from fewshot_data.transforms import image_transforms

MIRROR = "github.com/linzhiqiu/cross_modal_adaptation"


@pytest.fixture
def laid(tmp_path):
    """Lays a made-up copy out and gives its folder and how to check it."""

    def lay(name, layout=None):
        folder = make(load_spec(name), tmp_path, layout=layout)
        return folder, lambda **options: check_dataset(load_spec(name), tmp_path, **options)

    return lay


def test_problem_1_a_missing_split_file_is_named_with_its_place_and_a_mirror(laid):
    folder, check = laid("oxford_pets")
    (folder / "split_zhou_OxfordPets.json").unlink()
    error = check().error
    assert "split_zhou_OxfordPets.json" in error
    assert str(folder) in error
    assert MIRROR in error


def test_problem_2_sun397_needs_its_split_file_only(laid):
    folder, check = laid("sun397")
    assert sorted(path.name for path in folder.iterdir()) == ["SUN397", "split_zhou_SUN397.json"]
    report = check()
    assert (report.error, report.published) == ("", True)


def test_problem_2_sun397_without_partitions_is_cut_anew_and_says_so(laid):
    folder, check = laid("sun397", "original")
    for name in ("Training_01.txt", "Testing_01.txt"):
        (folder / name).unlink()
    report = check()  # as torchvision leaves it
    assert (report.error, report.published, report.classes[0]) == ("", False, 4)
    assert sum(found for found, _ in report.counts.values()) == 40


def test_problem_3_cars_need_no_matlab_file_with_the_split_file(laid):
    folder, check = laid("stanford_cars")
    assert not list(folder.rglob("*.mat"))
    assert (check().error, check().published) == ("", True)
    (folder / "split_zhou_StanfordCars.json").unlink()
    assert "with it no annotation file is needed" in check().error


def test_problem_4_official_files_stand_in_for_vpts_splits_and_say_so(laid):
    _, check = laid("fgvc-cub", "official")
    report = check()
    assert (report.error, report.published) == ("", False)
    assert "VPT" in report.origin
    assert any("github.com/FightingFighting/GPS" in home for home in load_spec("fgvc-cub").homes)


@pytest.mark.parametrize("name", ["caltech101", "food101", "oxford_pets"])
def test_problem_5_folder_names_of_the_documents_and_of_the_code_are_the_same_data(name, tmp_path):
    drawn = []
    for layout in ("coop", "so"):
        make(load_spec(name), tmp_path / layout, layout=layout)
        data = few_shot(name, 2, seed=1, protocol="coop", root=tmp_path / layout)
        drawn.append([data.names[i] for i in data.train.indices])
    folders = [next((tmp_path / layout).iterdir()).name for layout in ("coop", "so")]
    assert folders[0] != folders[1]
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("spelled", ["FOOD101", "food_101", "Food-101", "food 101"])
def test_problem_6_spelling_does_not_matter_where_file_systems_tell_it_apart(laid, spelled):
    folder, check = laid("food101")
    folder.rename(folder.parent / spelled)
    assert check().error == ""


def test_problem_7_a_flat_val_folder_is_an_error_and_a_stale_cache_is_not_read(laid):
    folder, check = laid("imagenet")
    (folder / "preprocessed.pkl").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    report = check()
    assert (report.error, report.caches) == ("", (str(folder / "preprocessed.pkl"),))
    val = folder / "images" / "val"
    for wnid in [path for path in val.iterdir() if path.is_dir()]:
        for path in wnid.iterdir():
            path.rename(val / f"{wnid.name}_{path.name}")
        wnid.rmdir()
    assert "not sorted into class folders" in check().error


def test_problem_8_class_names_that_do_not_fit_are_noticed(laid):
    folder, check = laid("imagenet")
    names = folder / "classnames.txt"
    lines = names.read_text().splitlines(keepends=True)
    names.write_text("".join(reversed(lines)))
    assert "not sorted by WordNet id" in check().error
    names.write_text(lines[0])
    assert "no line for 2 class folders" in check().error
    names.unlink()
    # open_clip and timm, where both are installed, know the names.
    warned = any("no classnames.txt" in note for note in check().notes)
    assert warned == (not installed_names())


def test_problem_9_no_development_kit_of_imagenet_is_needed(laid):
    folder, check = laid("imagenet", "so")
    found = [
        path.name for path in folder.rglob("*") if "devkit" in path.name or "meta" in path.name
    ]
    assert (found, check().error) == ([], "")


def test_problem_10_tiny_sets_are_not_dropped_and_empty_ones_are_refused(laid):
    folder, _ = laid("eurosat")
    transform = image_transforms(16, 0.5, 0.5)
    data = few_shot("eurosat", 1, seed=1, transform=transform, root=folder)
    assert len(next(data.train_batches(32, seed=0))["label"]) == 4
    assert [len(batch["label"]) for batch in data.test_batches(5)] == [5, 3]
    none = few_shot("eurosat", 0, seed=1, transform=transform, root=folder)
    with pytest.raises(ValueError, match="shots"):
        next(none.train_batches(32, seed=0))


def test_problem_11_missing_images_are_told_together_with_their_number(laid):
    folder, check = laid("dtd")
    images = sorted((folder / "images").rglob("*.jpg"))
    for path in images[:12]:
        path.unlink()
    error = check().error
    assert "12 of 40" in error
    assert sum(str(path) in error for path in images[:12]) == 10  # the first ten


def test_problem_12_an_unreadable_image_is_named_or_skipped_never_waited_for(laid):
    from fewshot_data.loading import Loading

    folder, check = laid("dtd")
    data = few_shot("dtd", 2, seed=1, root=folder)
    broken = folder / "images" / data.names[data.train.indices[0]]
    broken.write_bytes(b"no image")
    assert [str(broken) in line for line in check(decode=-1).unreadable] == [True]
    transform = image_transforms(16, 0.5, 0.5)
    with pytest.raises(ValueError, match=broken.name):
        next(data.with_transform(transform).train_batches(8, seed=0))
    skipping = data.with_transform(transform, Loading(on_error="skip"))
    with pytest.warns(UserWarning, match="left out"):
        assert len(next(skipping.train_batches(8, seed=0))["label"]) == 7
    assert len(skipping.train.skipped) == 1


@pytest.mark.parametrize(
    ("mode", "form"), [("L", "JPEG"), ("CMYK", "JPEG"), ("RGBA", "PNG"), ("P", "GIF")]
)
def test_problem_13_odd_images_are_read_by_their_content(tmp_path, mode, form):
    from random import Random

    path = tmp_path / "Abyssinian_34.jpg"
    picture(1, Random(0)).convert(mode).save(path, format=form)
    image = read_image(path)
    assert (image.mode, image.size) == ("RGB", (48, 40))
    whole = path.read_bytes()
    path.write_bytes(whole[: 3 * len(whole) // 4])
    with pytest.raises(ValueError, match=r"cannot read image '.*Abyssinian_34\.jpg'"):
        read_image(path)
    assert np.asarray(read_image(path, truncated=True)).shape == (40, 48, 3)


def test_problem_14_background_and_easy_faces_are_no_classes(laid):
    folder, check = laid("caltech101", "original")
    places = {path.name for path in (folder / "101_ObjectCategories").iterdir()}
    assert {"BACKGROUND_Google", "Faces_easy"} <= places
    report = check()
    assert report.classes == (len(places - {"BACKGROUND_Google", "Faces_easy"}), 100)


@pytest.mark.parametrize("place", ["2750", "EuroSAT_RGB", "EuroSAT/2750", "."])
def test_problem_15_images_of_eurosat_are_found_wherever_copies_have_them(laid, place):
    folder, check = laid("eurosat")
    (folder / "2750").rename(folder / "moved")
    if place == ".":
        for entry in (folder / "moved").iterdir():
            entry.rename(folder / entry.name)
    else:
        (folder / place).parent.mkdir(exist_ok=True)
        (folder / "moved").rename(folder / place)
    assert check().error == ""


def test_problem_15_multispectral_images_are_named(laid):
    folder, check = laid("eurosat")
    (folder / "2750").rename(folder / "EuroSATallBands")
    assert "multispectral" in check().error


@pytest.mark.parametrize("stray", [".DS_Store", "._image.jpg", ".directory", "Thumbs.db"])
def test_problem_16_hidden_files_are_no_images_and_no_classes(laid, stray):
    folder, check = laid("dtd", "original")
    before = check()
    images = folder / "images"
    (images / stray).write_bytes(b"")
    (next(path for path in images.iterdir() if path.is_dir()) / stray).write_bytes(b"")
    after = check(decode=-1)
    assert (after.counts, after.classes, after.unreadable) == (before.counts, before.classes, ())


@pytest.mark.parametrize("name", ["sun397", "dtd", "fgvc-cub", "oxford_pets"])
def test_problem_32_one_level_too_deep_is_found(laid, name):
    folder, check = laid(name)
    inner = folder.parent / "inner"
    folder.rename(inner)
    folder.mkdir()
    inner.rename(folder / folder.name)
    assert check().error == ""


def test_problem_32_one_level_too_shallow_is_found(laid):
    folder, _ = laid("dtd")
    assert check_dataset(load_spec("dtd"), folder / "images").error == ""
    assert json.loads((folder / "split_zhou_DescribableTextures.json").read_text())["train"]
