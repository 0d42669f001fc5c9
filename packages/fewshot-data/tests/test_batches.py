"""Batches: order, seeds, last batch, padding, what is kept in memory and what is not."""

from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

import fewshot_data.kept as kept
from fewshot_data.batches import Split
from fewshot_data.transforms import image_transforms, text_transforms

COUNT = 10
NOISE = np.random.default_rng(0).integers(0, 256, (COUNT, 30, 40, 3), dtype=np.uint8)
IMAGES = [Image.fromarray(pixels) for pixels in NOISE]
TEXTS = ["ab" * (1 + number) for number in range(COUNT)]


def tokenizer(text):
    return {"input_ids": [ord(c) for c in text], "attention_mask": [1] * len(text)}


def images(train="same", split="test"):
    transform = getattr(image_transforms(8, 0.0, 1.0, train=train), split)
    return Split(IMAGES, range(COUNT), range(COUNT), "image", transform, fixed=train == "same")


def texts():
    return Split(TEXTS, range(COUNT), range(COUNT), "text", text_transforms(tokenizer).test)


@pytest.fixture(params=["kept", "streamed"])
def memory(request, monkeypatch):
    """Once with everything kept in memory, once with nothing."""
    monkeypatch.setattr(kept, "CACHE_BYTES", 1 << 30 if request.param == "kept" else 0)


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("make", [images, texts])
@pytest.mark.parametrize("size", [1, 3, 10, 99])
def test_one_pass_in_order_covers_everything_once(memory, make, size):
    for _ in range(2):
        labels = [batch["label"] for batch in make().in_order(size)]
        assert torch.cat(labels).tolist() == list(range(COUNT))
        assert {len(part) for part in labels[:-1]} <= {size}


@pytest.mark.parametrize("make", [images, texts])
def test_every_training_pass_is_a_permutation_and_keeps_the_last_batch(memory, make):
    drawn = list(islice(make().shuffled(4, seed=0), 9))
    assert [len(batch["label"]) for batch in drawn] == [4, 4, 2] * 3
    passes = [torch.cat([b["label"] for b in drawn[at : at + 3]]).tolist() for at in (0, 3, 6)]
    assert all(sorted(order) == list(range(COUNT)) for order in passes)
    assert passes[0] != passes[1] != passes[2]


@pytest.mark.parametrize("make", [images, texts, lambda: images("crop_flip", "train")])
def test_a_seed_fixes_every_batch(memory, make):
    def run(split, seed):
        return list(islice(split.shuffled(4, seed=seed), 7))

    split = make()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, again, fresh = run(split, 5), run(split, 5), run(make(), 5)
    assert all(map(equal, first, again))
    assert all(map(equal, first, fresh))
    assert not all(map(equal, first, run(split, 6)))
    assert torch.equal(torch.get_rng_state(), before)


def test_keeping_samples_changes_nothing_but_time(monkeypatch):
    remembered = list(islice(images().shuffled(3, seed=1), 8))
    kept_texts = list(islice(texts().shuffled(3, seed=1), 8))
    monkeypatch.setattr(kept, "CACHE_BYTES", 0)
    assert all(map(equal, remembered, islice(images().shuffled(3, seed=1), 8)))
    assert all(map(equal, kept_texts, islice(texts().shuffled(3, seed=1), 8)))


def test_augmenting_does_not_change_the_order():
    plain = [batch["label"] for batch in islice(images().shuffled(4, seed=3), 6)]
    cropped = images("crop_flip", "train").shuffled(4, seed=3)
    assert all(torch.equal(a, b["label"]) for a, b in zip(plain, cropped, strict=False))


@pytest.mark.parametrize(("limit", "calls"), [(1 << 30, COUNT), (0, 3 * COUNT)])
def test_a_fixed_transform_runs_once_per_sample_if_the_result_fits(monkeypatch, limit, calls):
    monkeypatch.setattr(kept, "CACHE_BYTES", limit)
    seen = []

    def transform(image):
        seen.append(image)
        return torch.zeros(1, 2, 2)

    split = Split(IMAGES, range(COUNT), range(COUNT), "image", transform)
    list(islice(split.shuffled(5, seed=0), 6))
    assert len(seen) == calls


def test_a_random_transform_is_never_kept():
    split = images("crop_flip", "train")
    first, second = islice(split.shuffled(COUNT, seed=0), 2)
    order = [first["label"].argsort(), second["label"].argsort()]
    assert not torch.equal(first["image"][order[0]], second["image"][order[1]])


def test_a_batch_takes_the_same_memory_however_often_its_texts_were_read(memory):
    """Peak memory is a result: it must not depend on what an earlier run left in memory."""
    split = texts()
    for _ in range(3):
        for batch in split.in_order(4):
            held = {key: rows.untyped_storage().nbytes() for key, rows in batch.items()}
            assert held == {key: rows.numel() * 8 for key, rows in batch.items()}


def test_texts_are_padded_to_the_longest_of_their_batch(memory):
    for batch in texts().in_order(3):
        lengths = 2 * (batch["label"] + 1)
        assert batch["input_ids"].shape == (len(lengths), lengths.max())
        assert torch.equal(batch["attention_mask"].sum(1), lengths)
        assert torch.equal(batch["input_ids"] == 0, batch["attention_mask"] == 0)


def test_padding_by_the_tokenizer_is_cut_too(memory):
    def fixed(text):
        ids = [7] * len(text)
        return {
            "input_ids": ids + [0] * (50 - len(ids)),
            "attention_mask": [int(i > 0) for i in ids + [0] * (50 - len(ids))],
        }

    split = Split(["abc", ""], [0, 1], [0, 1], "text", text_transforms(fixed).test)
    assert [b["input_ids"].shape for b in split.in_order(1)] == [(1, 3), (1, 1)]


def test_items_are_dicts_with_a_label():
    item = images()[3]
    assert (item["label"].item(), item["label"].dtype, item["image"].shape) == (
        3,
        torch.int64,
        (3, 8, 8),
    )
    assert Split(TEXTS, range(COUNT), [9, 1], "text")[0]["text"] == TEXTS[9]
    with pytest.raises(IndexError):
        images()[COUNT]


def test_shapes_that_do_not_fit_together_are_named():
    items = [{"image": torch.zeros(3, 4, 4)}, {"image": torch.zeros(3, 4, 5)}]
    with pytest.raises(ValueError, match=r"'image' of different shapes.*\(3, 4, 4\) and "):
        kept.collate(items)


def test_a_split_without_samples():
    empty = Split([], [], [], "image", torch.tensor)
    assert list(empty.in_order(4)) == []
    with pytest.raises(ValueError, match=r"no training sample.*shots of at least 1"):
        empty.shuffled(4, seed=0)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_batches_without_a_transform_say_which_helper_makes_one(modality):
    split = Split(IMAGES, range(COUNT), range(COUNT), modality)
    with pytest.raises(ValueError, match=f"pass transform={modality}_transforms"):
        split.in_order(4)


@pytest.mark.parametrize("batch_size", [0, -3])
def test_a_batch_holds_at_least_one_sample(batch_size):
    with pytest.raises(ValueError, match=f"batch_size is {batch_size}"):
        images().shuffled(batch_size, seed=0)
    with pytest.raises(ValueError, match=f"batch_size is {batch_size}"):
        images().in_order(batch_size)


@pytest.mark.parametrize("limit", [1 << 30, 0])
def test_texts_are_tokenised_once_whatever_fits(monkeypatch, limit):
    monkeypatch.setattr(kept, "CACHE_BYTES", limit)
    seen = []
    transform = text_transforms(lambda text: seen.append(text) or tokenizer(text)).test
    split = Split(TEXTS, range(COUNT), range(COUNT), "text", transform)
    for _ in range(3):
        list(split.in_order(4))
    assert sorted(seen) == sorted(TEXTS)


def test_memory_for_kept_images_stays_below_the_limit(monkeypatch):
    sample = 3 * 8 * 8 + 8  # bytes, normalised when a batch is made
    for limit, remembered in ((COUNT * sample, True), (COUNT * sample - 1, False)):
        monkeypatch.setattr(kept, "CACHE_BYTES", limit)
        split = images()
        list(islice(split.in_order(4), 3))
        assert bool(split._kept._items) == remembered
