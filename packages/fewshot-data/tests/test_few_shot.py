"""The front door: few_shot and FewShotData on one's own images, texts and specs."""

import dataclasses
import pickle
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from fewshot_data import few_shot, load_spec
from fewshot_data.batches import Split
from fewshot_data.transforms import image_transforms, text_transforms


def tokenizer(text):
    return {
        "input_ids": [len(word) for word in text.split()],
        "attention_mask": [1] * len(text.split()),
    }


@pytest.fixture
def pets(image_folder):
    return image_folder({"cat": 10, "red_fox": 10})


def test_a_folder_from_path_to_batches(pets):
    data = few_shot(pets, 4, seed=1, transform=image_transforms(8, 0.5, 0.5))
    assert (data.class_names, data.prompt_names) == (("cat", "red_fox"), ("cat", "red fox"))
    assert (data.modality, data.templates, data.val) == ("image", ("a photo of a {}.",), None)
    assert (len(data.train), len(data.test)) == (8, 4)
    batch = next(data.train_batches(5, seed=0))
    assert (batch["image"].shape, batch["label"].shape) == ((5, 3, 8, 8), (5,))
    assert (batch["image"].dtype, batch["label"].dtype) == (torch.float32, torch.int64)
    assert sum(len(batch["label"]) for batch in data.test_batches(3)) == 4


def test_a_text_file_from_path_to_batches(text_file, moods):
    data = few_shot(text_file(moods), 4, seed=1, transform=text_transforms(tokenizer))
    assert (data.class_names, data.modality, data.templates) == (("bad", "good"), "text", ("{}",))
    for batch in data.test_batches(2):
        assert batch.keys() == {"input_ids", "attention_mask", "label"}
        assert batch["attention_mask"].any(0).all()


@pytest.mark.parametrize("protocol", ["nested", "coop", "so"])
def test_training_and_test_samples_never_meet(pets, protocol):
    for seed in range(5):
        data = few_shot(pets, 8, seed=seed, protocol=protocol)
        assert not set(data.train.indices) & set(data.test.indices)
        assert len(data.train) == 16


def test_more_shots_contain_fewer_and_seeds_differ(pets):
    drawn = [set(few_shot(pets, shots, seed=3).train.indices) for shots in (0, 1, 2, 4, 8)]
    assert all(few < more for few, more in pairwise(drawn))
    assert few_shot(pets, 2, seed=4).train.indices != few_shot(pets, 2, seed=3).train.indices


def test_zero_shots_leave_the_test_set(pets):
    data = few_shot(pets, 0, seed=1, transform=image_transforms(8, 0.5, 0.5))
    assert (len(data.train), len(data.test)) == (0, 4)
    with pytest.raises(ValueError, match="shots of at least 1"):
        data.train_batches(4, seed=0)


def test_a_spec_a_path_and_a_string_are_the_same(pets):
    drawn = [few_shot(one, 2, seed=1) for one in (pets, str(pets), load_spec(pets))]
    assert drawn[0].train.indices == drawn[1].train.indices == drawn[2].train.indices


def test_another_transform_gives_new_data_with_the_same_draw(pets):
    data = few_shot(pets, 2, seed=1)
    small = data.with_transform(image_transforms(8, 0.5, 0.5))
    assert small.train.indices == data.train.indices
    assert data.train[0]["image"].size == (12, 10)
    assert small.train[0]["image"].shape == (3, 8, 8)


def test_one_callable_serves_both_splits_and_two_serve_their_own(pets):
    one = few_shot(pets, 1, seed=1, transform=lambda image: torch.tensor(1.0))
    assert one.train[0]["image"] == one.test[0]["image"] == 1
    two = SimpleNamespace(train=lambda _: torch.tensor(1.0), test=lambda _: torch.tensor(2.0))
    data = few_shot(pets, 1, seed=1, transform=two)
    assert (data.train[0]["image"], data.test[0]["image"]) == (1, 2)


def test_something_else_than_a_transform_is_refused(pets):
    with pytest.raises(ValueError, match="transform is 32: give a callable"):
        few_shot(pets, 1, seed=1, transform=32)


def test_the_wrong_number_of_classes_is_refused(pets):
    from dataclasses import replace

    with pytest.raises(ValueError, match="should have 3 classes but 2 were found"):
        few_shot(replace(load_spec(pets), classes=3), 1, seed=1)


def test_data_survives_pickling_for_worker_processes(pets):
    data = few_shot(pets, 2, seed=1, transform=image_transforms(8, 0.5, 0.5))
    copy = pickle.loads(pickle.dumps(data))
    one, other = next(data.train_batches(4, seed=0)), next(copy.train_batches(4, seed=0))
    assert torch.equal(one["image"], other["image"])


def test_a_test_set_without_samples_gives_no_silent_empty_pass(pets):
    data = few_shot(pets, 1, seed=1, transform=image_transforms(8, 0.5, 0.5))
    empty = Split([], [], [], "image", image_transforms(8, 0.5, 0.5).test)
    with pytest.raises(ValueError, match="has no test sample"):
        dataclasses.replace(data, test=empty).test_batches(4)
