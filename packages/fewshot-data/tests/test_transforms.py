"""Transforms: shapes, normalisation, no needless resampling, seeded randomness."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fewshot_data.crops import random_crop_box
from fewshot_data.transforms import image_transforms, text_transforms


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("size", [(16, 16), (40, 24), (9, 30), (3, 2)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest"])
@pytest.mark.parametrize("train", ["same", "crop_flip"])
def test_every_image_gets_the_wanted_shape(size, mode, channels, interpolation, train):
    both = image_transforms(
        16, 0.5, 0.5, channels=channels, interpolation=interpolation, train=train
    )
    for transform in (both.train, both.test):
        image = transform(noise(*size, mode=mode))
        assert (image.shape, image.dtype) == ((channels, 16, 16), torch.float32)
        assert type(image) is torch.Tensor
        assert -1 <= image.min() <= image.max() <= 1


def test_an_image_of_the_right_size_is_only_normalised():
    image = noise(16, 16)
    mean, std = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) / 255
    wanted = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    assert torch.allclose(image_transforms(16, mean, std).test(image), wanted, atol=1e-6)


def test_testing_equals_pillow_resize_and_centre_crop():
    image = noise(50, 30)
    resized = image.resize((33, 20), Image.Resampling.BICUBIC).crop((6, 0, 26, 20))
    wanted = torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1) / 255
    assert torch.allclose(image_transforms(20, 0.0, 1.0).test(image), wanted, atol=1e-6)


def test_random_crops_come_from_the_generator_that_is_passed():
    image, both = noise(40, 30), image_transforms(16, 0.5, 0.5, train="crop_flip")

    def draws(seed):
        transform = both.train.seeded(torch.Generator().manual_seed(seed))
        return torch.stack([transform(image) for _ in range(4)])

    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert torch.equal(draws(1), draws(1))
    assert not torch.equal(draws(1), draws(2))
    assert not torch.equal(draws(1)[0], draws(1)[1])
    assert torch.equal(torch.get_rng_state(), before)


def test_half_of_the_crops_are_mirrored():
    ramp = Image.fromarray(np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1)))
    train = image_transforms(8, 0.0, 1.0, train="crop_flip").train
    rising = [bool(image[0, 0, -1] > image[0, 0, 0]) for image in (train(ramp) for _ in range(200))]
    assert 70 < sum(rising) < 130


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 2**40))
def test_crop_boxes_lie_inside_the_image(height, width, seed):
    top, left, rows, columns = random_crop_box(height, width, torch.Generator().manual_seed(seed))
    assert 0 <= top < top + rows <= height
    assert 0 <= left < left + columns <= width


def test_crop_boxes_have_the_stated_areas_and_shapes():
    generator = torch.Generator().manual_seed(0)
    boxes = [random_crop_box(1000, 1000, generator) for _ in range(2000)]
    areas = torch.tensor([rows * columns / 1e6 for _, _, rows, columns in boxes])
    aspects = torch.tensor([columns / rows for _, _, rows, columns in boxes])
    assert 0.079 < areas.min() < 0.1 < 0.9 < areas.max() <= 1
    assert 0.745 < aspects.min() < 0.77 < 1.30 < aspects.max() < 1.34


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size is 0"),
        ({"channels": 4}, "channels is 4"),
        ({"interpolation": "cubic"}, "unknown interpolation 'cubic'.*bicubic"),
        ({"train": "mixup"}, "unknown train 'mixup': known: same, crop_flip"),
        ({"mean": (0.5, 0.5)}, "mean has 2 values for 3 channels"),
        ({"std": 0.0}, "std is 0.0"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        image_transforms(**{"size": 16, "mean": 0.5, "std": 0.5, **arguments})


def test_texts_become_tensors_of_their_own_length():
    both = text_transforms(
        lambda text: {"input_ids": [ord(c) for c in text], "attention_mask": [1] * len(text)}
    )
    tokens = both.train("abc")
    assert tokens["input_ids"].tolist() == [97, 98, 99]
    assert tokens["attention_mask"].dtype == tokens["input_ids"].dtype == torch.int64
