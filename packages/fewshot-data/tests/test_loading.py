"""Images from disk: the same batches for any number of workers, bounded memory, broken files."""

import pickle
import random
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from torchvision import transforms as published

import fewshot_data.kept as kept
from fewshot_data import few_shot
from fewshot_data.batches import Split
from fewshot_data.decoded import Decoded
from fewshot_data.harness import HARNESSES, harness_transforms
from fewshot_data.images import ImageFiles, read_image
from fewshot_data.loading import Loading
from fewshot_data.transforms import image_transforms

COUNT = 9
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Nine JPEG files of noise."""
    paths = [tmp_path / f"{number}.jpg" for number in range(COUNT)]
    draw = np.random.default_rng(0)
    for path in paths:
        pixels = draw.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, quality=90)
    return paths


def split_of(paths, transform, fixed=None, **loading) -> Split:
    labels, fixed = range(len(paths)), getattr(transform, "fixed", fixed)
    images = ImageFiles(paths)
    return Split(
        images, labels, labels, "image", transform, fixed=fixed, loading=Loading(**loading)
    )


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def train(name="clip"):
    return harness_transforms(name, 16, 0.5, 0.5).train


OTHERS = published.Compose(
    [published.RandomCrop(8), published.RandomHorizontalFlip(), published.ToTensor()]
)
"""A random transform that knows nothing of generators."""


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_batches_do_not_depend_on_the_number_of_workers(files, workers):
    for transform in (train("snell-fgvc"), OTHERS, train("snell-vtab")):
        alone = split_of(files, transform, fixed=False)
        wanted = list(islice(alone.shuffled(4, seed=3), 7))
        helped = split_of(files, transform, fixed=False).shuffled(4, seed=3, workers=workers)
        assert all(map(equal, wanted, islice(helped, 7)))
        helped.close()
    testing = train("snell-vtab")
    wanted = list(split_of(files, testing).in_order(4))
    made = list(split_of(files, testing).in_order(4, workers=workers))
    assert [len(batch["label"]) for batch in made] == [4, 4, 1]
    assert all(map(equal, wanted, made))


def test_augmentation_belongs_to_seed_pass_and_sample(files):
    """Not to the batch that a sample lands in, nor to what was drawn before it."""

    small = {}
    for batch in islice(split_of(files, train()).shuffled(2, seed=1), 5):
        small |= dict(zip(batch["label"].tolist(), batch["image"], strict=True))
    (large,) = islice(split_of(files, train()).shuffled(COUNT, seed=1), 1)
    first, second = islice(split_of(files, train()).shuffled(COUNT, seed=1), 2)
    for label, image in zip(large["label"].tolist(), large["image"], strict=True):
        assert torch.equal(image, small[label])
        again = second["image"][second["label"] == label][0]
        assert not torch.equal(image, again)
    assert equal(first, large)


def numpy_state():
    """Of NumPy's global generator, which we must not touch."""
    return np.random.get_state()[1].copy()  # noqa: NPY002


@pytest.mark.parametrize("workers", [0, 2])
def test_nothing_touches_the_global_generators(files, workers):
    torch.manual_seed(0)
    before = torch.get_rng_state(), random.getstate(), numpy_state()
    for transform in (train(), OTHERS):
        batches = split_of(files, transform, fixed=False).shuffled(4, seed=0, workers=workers)
        list(islice(batches, 4))
        batches.close()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(numpy_state(), before[2])


def removing(paths):
    """Take the files away: what is read afterwards was kept."""
    for path in paths:
        path.unlink()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", ["clip", "snell-vtab"])
def test_training_images_are_decoded_once(files, name, workers):
    split = split_of(files, train(name))
    wanted = list(islice(split_of(files, train(name)).shuffled(4, seed=0), 12))
    batches = split.shuffled(4, seed=0, workers=workers)
    made = list(islice(batches, 3))
    removing(files)
    made += islice(batches, 9)
    batches.close()
    assert all(map(equal, wanted, made))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_test_set_that_fits_is_read_once(files, workers):
    split = split_of(files, train("snell-vtab"))
    first = list(split.in_order(4, workers=workers))
    removing(files)
    assert all(map(equal, first, split.in_order(4, workers=workers)))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", ["clip", "snell-vtab"])
def test_what_may_not_be_kept_is_read_again_and_is_the_same(files, name, workers):
    wanted = list(islice(split_of(files, train(name)).shuffled(4, seed=0), 6))
    split = split_of(files, train(name), memory=0)
    batches = split.shuffled(4, seed=0, workers=workers)
    assert all(map(equal, wanted, islice(batches, 6)))
    batches.close()
    removing(files)
    with pytest.raises(ValueError, match="cannot read image"):
        list(islice(split.shuffled(4, seed=0, workers=workers), 3))


def test_decoded_images_are_kept_up_to_the_limit(files):
    each = 48 * 40 * 4
    for fill in (False, True):
        images = Decoded(ImageFiles(files), 3 * each + each // 2)
        if fill:
            images.fill(range(COUNT), threads=2)
        else:
            assert len(list(images)) == COUNT
        assert images.held == 3 * each
        assert images[0] is images[0]
        assert images[8] is not images[8]
    assert Decoded(ImageFiles(files), 99)._kept == {}


def test_a_copy_for_another_process_is_empty(files):
    images = Decoded(ImageFiles(files), 1 << 20)
    assert images[1] is images[1]
    copy = pickle.loads(pickle.dumps(images))
    assert (copy.held, len(copy), copy.memory) == (0, COUNT, 1 << 20)
    assert np.array_equal(np.asarray(copy[1]), np.asarray(images[1]))


def test_transforms_can_be_sent_to_another_process(files):
    image = read_image(files[0])
    for name in HARNESSES:
        both = harness_transforms(name, 16, 0.5, 0.5)
        for transform in (both.train, both.test):
            assert torch.equal(pickle.loads(pickle.dumps(transform))(image), transform(image))


def test_kept_test_images_take_a_byte_for_each_value(files):
    split = split_of(files, train("snell-vtab"), memory=COUNT * (3 * 16 * 16 + 8))
    list(split.in_order(4))
    list(split.in_order(4))
    assert split._kept._rows["image"].dtype == torch.uint8
    assert next(split.in_order(4))["image"].dtype == torch.float32


BROKEN = {
    "text": b"<html>not found</html>",
    "empty": b"",
    "noise": bytes(range(256)) * 4,
}


def spoil(path: Path, kind: str) -> None:
    """Break a file: put something else there, or take its end away."""
    whole = path.read_bytes()
    path.write_bytes(whole[: 3 * len(whole) // 4] if kind == "cut" else BROKEN[kind])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["cut", *BROKEN])
@pytest.mark.parametrize("name", ["clip", "snell-vtab"])
def test_an_unreadable_image_is_named(files, kind, name, workers):
    spoil(files[5], kind)
    for run in (
        lambda split: split.in_order(4, workers=workers),
        lambda split: islice(split.shuffled(4, seed=0, workers=workers), 3),
    ):
        with pytest.raises(ValueError, match=r"^cannot read image '.*5\.jpg' \(.*restore or remo"):
            list(run(split_of(files, train(name))))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", ["clip", "snell-vtab"])
def test_unreadable_images_are_skipped_only_by_option_and_counted(files, name, workers):
    for number in (0, 5, 8):
        spoil(files[number], "cut")
    split = split_of(files, train(name), on_error="skip")
    with pytest.warns(UserWarning, match=r"left out: cannot read image '.*\.jpg'") as seen:
        drawn = list(islice(split.shuffled(4, seed=0, workers=workers), 6))
    assert len(seen) == 3  # once each, not once a pass
    assert sorted(split.skipped) == [0, 5, 8]
    assert "5.jpg" in split.skipped[5]
    labels = torch.cat([batch["label"] for batch in drawn]).tolist()
    assert sorted(labels) == sorted(2 * [1, 2, 3, 4, 6, 7])
    good = split_of([files[n] for n in (1, 2, 3)], train("snell-vtab"))
    tested = split_of(files, train("snell-vtab"), on_error="skip")
    with pytest.warns(UserWarning, match="left out") as seen:
        first = list(tested.in_order(4, workers=workers))
    assert len(seen) == len(tested.skipped) == 3
    assert [len(batch["label"]) for batch in first] == [3, 3]  # the ninth image is unreadable
    assert torch.equal(first[0]["image"], next(good.in_order(3))["image"])
    assert all(map(equal, first, tested.in_order(4, workers=workers)))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", ["clip", "snell-vtab"])
@pytest.mark.filterwarnings("ignore:left out")
def test_where_nothing_can_be_read_no_loop_goes_on_for_ever(files, name, workers):
    for path in files:
        spoil(path, "text")
    for make in (
        lambda split: next(split.shuffled(4, seed=0, workers=workers)),
        lambda split: list(split.in_order(4, workers=workers)),
    ):
        with pytest.raises(ValueError, match=r"none of the 9 samples can be read; the first: can"):
            make(split_of(files, train(name), on_error="skip"))


def test_truncated_files_are_read_only_by_option(files):
    whole = np.asarray(read_image(files[0]), dtype=int)
    spoil(files[0], "cut")
    with pytest.raises(ValueError, match="truncated"):
        read_image(files[0])
    part = np.asarray(read_image(files[0], truncated=True), dtype=int)
    assert np.array_equal(part[:4], whole[:4])
    assert not np.array_equal(part[-8:], whole[-8:])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    (batch,) = split_of(files[:1], train("snell-vtab"), truncated=True).in_order(1)
    assert batch["image"].shape == (1, 3, 16, 16)
    spoil(files[1], "text")
    with pytest.raises(ValueError, match="not an image"):
        read_image(files[1], truncated=True)


def test_large_files_are_shrunk_only_by_option(tmp_path):
    path = tmp_path / "large.jpg"
    Image.effect_noise((400, 320), 40).convert("RGB").save(path, quality=95)
    assert read_image(path).size == (400, 320)
    assert read_image(path, shrink=100).size == (200, 160)  # a quarter would be below 100
    assert read_image(path, shrink=300).size == (400, 320)
    Image.new("L", (400, 320)).save(path, format="PNG")
    assert read_image(path, shrink=10).size == (400, 320)


def test_loading_goes_with_the_data(image_folder):
    root = image_folder({"cat": 6, "dog": 6})
    (root / "cat" / "0.png").write_bytes(b"")
    data = few_shot(root, 2, seed=1)
    both = image_transforms(8, 0.5, 0.5, train="crop_flip")
    skipping = data.with_transform(both, Loading(on_error="skip"))
    assert {part.loading.on_error for part in (skipping.train, skipping.test)} == {"skip"}
    assert skipping.with_transform(None).train.loading.on_error == "skip"
    assert data.with_transform(both).test.loading.on_error == "raise"
    wanted = next(data.with_transform(both).train_batches(4, seed=0))
    batches = skipping.train_batches(4, seed=0, workers=1)
    assert equal(next(batches), wanted)
    batches.close()
    assert sum(len(b["label"]) for b in data.with_transform(both).test_batches(3, workers=1)) > 0


def test_an_image_of_a_training_transform_that_is_fixed_is_kept(image_folder):
    """Even where the test transform is another one, as with two normalisations."""
    data = few_shot(image_folder({"cat": 3, "dog": 3}), 1, seed=1)
    with pytest.warns(UserWarning, match="normalised with"):
        both = harness_transforms("snell-vtab", 8, 0.5, 0.5, normalise_train="imagenet")
    assert data.with_transform(both).train.fixed


def test_the_default_limit_is_a_gibibyte():
    assert kept.CACHE_BYTES == 1 << 30
    assert Loading().memory is None
    assert split_of([], train())._kept.limit == 1 << 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_error": "ignore"}, "unknown on_error 'ignore': known: raise, skip"),
        ({"memory": -1}, "memory is -1"),
        ({"shrink": -1}, "shrink is -1"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Loading(**options)


def test_workers_below_zero_are_refused(files):
    split = split_of(files, train("snell-vtab"))
    for make in (split.in_order, lambda size, **options: split.shuffled(size, seed=0, **options)):
        with pytest.raises(ValueError, match="workers is -1"):
            make(4, workers=-1)
