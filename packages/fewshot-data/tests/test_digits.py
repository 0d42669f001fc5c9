"""The handwritten digits: scikit-learn's own, enlarged, split by the seed."""

from collections import Counter
from dataclasses import replace
from importlib.machinery import ModuleSpec

import numpy as np
import pytest
from PIL import Image

from fewshot_data import digits, few_shot, installed, load_spec
from fewshot_data.digits import TEST_IMAGES, open_source


@pytest.fixture(scope="module")
def raw():
    return open_source(load_spec("digits"), seed=0)


def test_the_counts_are_those_the_registry_states(raw):
    spec = load_spec("digits")
    assert len(raw.class_names) == spec.classes
    assert len(raw.test_indices) == spec.splits["test"] == TEST_IMAGES
    assert spec.splits["train"].startswith(f"the {len(raw.train_indices)} images")
    assert sorted(raw.train_indices + raw.test_indices) == list(range(1797))


def test_names_are_words_in_the_order_of_the_digits(raw):
    assert raw.class_names[:3] == ("digit zero", "digit one", "digit two")
    assert raw.class_names[9] == "digit nine"


def test_every_digit_is_tested_on_and_has_16_shots_for_any_seed():
    for seed in range(20):
        data = open_source(load_spec("digits"), seed=seed)
        assert min(Counter(data.labels[i] for i in data.test_indices).values()) > 50
        assert min(Counter(data.labels[i] for i in data.train_indices).values()) > 50
    assert len(few_shot("digits", 16, seed=0).train) == 160


def test_images_are_white_ink_in_the_middle_of_a_black_cell(raw):
    for image in raw.samples[::50]:
        pixels = np.asarray(image)
        assert (image.mode, image.size) == ("L", (32, 32))
        assert np.median(pixels) < 128 < pixels.max()
        assert pixels[4:28, 4:28].sum() == pixels.sum()


def test_a_seed_moves_the_test_split_and_not_the_images(raw):
    again, other = (open_source(load_spec("digits"), seed=seed) for seed in (0, 1))
    assert again.test_indices == raw.test_indices != other.test_indices
    assert other.labels == raw.labels
    assert [i.tobytes() for i in other.samples] == [i.tobytes() for i in raw.samples]


def test_read_afresh_they_are_the_same(raw):
    digits._images.cache_clear()
    again = open_source(load_spec("digits"), seed=0)
    assert again.samples[0] is not raw.samples[0]
    assert [i.tobytes() for i in again.samples] == [i.tobytes() for i in raw.samples]


@pytest.mark.slow
def test_they_are_the_digits_that_scikit_learn_loads(raw):
    from sklearn.datasets import load_digits

    wanted = load_digits()
    assert raw.labels == wanted.target.tolist()
    for image, pixels in zip(raw.samples, wanted.images, strict=True):
        grey = np.round(pixels / 16 * 255).astype(np.uint8)
        enlarged = Image.fromarray(grey).resize((24, 24), Image.Resampling.BICUBIC)
        assert np.array_equal(np.asarray(image)[4:28, 4:28], np.asarray(enlarged))


def test_an_option_is_refused():
    with pytest.raises(ValueError, match="unknown option 'size' for source 'digits'"):
        open_source(replace(load_spec("digits"), options={"size": 8}), seed=0)


@pytest.mark.parametrize("found", ["no package", "a package without data"])
def test_without_scikit_learn_the_extra_to_install_is_named(found, monkeypatch, tmp_path):
    package = ModuleSpec("sklearn", None, is_package=True)
    package.submodule_search_locations.append(str(tmp_path))
    answer = None if found == "no package" else package
    monkeypatch.setattr(installed, "find_spec", lambda _: answer)
    digits._images.cache_clear()
    with pytest.raises(FileNotFoundError, match=r"scikit-learn.*pip install 'fewshot-data\[embedd"):
        open_source(load_spec("digits"), seed=0)
