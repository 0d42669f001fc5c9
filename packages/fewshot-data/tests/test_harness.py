"""Harness transforms against Pillow by hand, and against torchvision and timm run for real."""

import math
import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from torchvision import transforms as published

from fewshot_data.harness import HARNESSES, harness_transforms
from fewshot_data.normalisation import NORMALISATIONS
from fewshot_data.steps import RandomResizedCrop
from fewshot_data.transforms import image_transforms

SIZES = [(300, 200), (200, 300), (61, 480), (224, 224), (30, 20), (257, 256)]
MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
BICUBIC, BILINEAR = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR


def photo(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Smooth colours with noise on top."""
    draw = np.random.default_rng(width * 1000 + height)
    small = draw.integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(small).resize((width, height), BICUBIC), dtype=int)
    noisy = smooth + draw.integers(-9, 10, smooth.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).convert(mode)


def values(image: Image.Image, mean=MEAN, std=STD) -> torch.Tensor:
    """Normalised values, by hand in float64."""
    pixels = np.asarray(image.convert("RGB"), dtype=np.float64) / 255
    return torch.from_numpy(((pixels - np.array(mean)) / np.array(std)).transpose(2, 0, 1))


def shorter(image: Image.Image, side: int, filter_: Image.Resampling) -> Image.Image:
    """Resize the shorter side; the longer one is cut down to whole pixels."""
    width, height = image.size
    if width <= height:
        return image.resize((side, int(side * height / width)), filter_)
    return image.resize((int(side * width / height), side), filter_)


def centre(image: Image.Image, size: int) -> Image.Image:
    """Crop the middle; half a pixel goes to the even side, as Python rounds."""
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return image.crop((left, top, left + size, top + size))


TESTING = {
    "clip": lambda image: centre(shorter(image, 224, BICUBIC), 224),
    "tip-adapter": lambda image: centre(shorter(image, 224, BICUBIC), 224),
    "snell-fgvc": lambda image: centre(shorter(image, 256, BILINEAR), 224),
    "snell-fgvc-no-aug": lambda image: centre(shorter(image, 256, BILINEAR), 224),
    "vpt": lambda image: centre(shorter(image, 256, BILINEAR), 224),
    "ssf": lambda image: centre(shorter(image, 248, BICUBIC), 224),
    "snell-vtab": lambda image: image.resize((224, 224), BICUBIC),
    "ssf-vtab": lambda image: image.resize((224, 224), BICUBIC),
    "binary-adapter-vtab": lambda image: image.resize((224, 224), BICUBIC),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", TESTING)
def test_testing_equals_pillow_by_hand(name, size):
    image = photo(*size)
    ours = harness_transforms(name, 224, MEAN, STD).test(image)
    assert torch.allclose(ours.double(), values(TESTING[name](image)), rtol=0, atol=2e-6)


def test_every_harness_is_held_to_something():
    assert {*TESTING, "vpt-vtab"} == set(HARNESSES)


@pytest.mark.parametrize("name", HARNESSES)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_every_harness_gives_the_wanted_shape(name, mode):
    both = harness_transforms(name, 32, 0.5, 0.5)
    for transform in (both.train, both.test):
        result = transform(photo(70, 50, mode))
        assert (result.shape, result.dtype) == ((3, 32, 32), torch.float32)


@pytest.mark.parametrize(("size", "side"), [(224, 256), (384, 438), (448, 512)])
def test_vpt_resizes_to_the_sides_of_its_program(size, side):
    image = photo(600, 700)
    ours = harness_transforms("vpt", size, MEAN, STD).test(image)
    wanted = values(centre(shorter(image, side, BILINEAR), size))
    assert torch.allclose(ours.double(), wanted, rtol=0, atol=2e-6)


def tensor_and_norm():
    return [published.ToTensor(), published.Normalize(MEAN, STD)]


def crop_flip(scale, interpolation):
    crop = published.RandomResizedCrop(
        224, scale=scale, ratio=(3 / 4, 4 / 3), interpolation=interpolation
    )
    return [crop, published.RandomHorizontalFlip(0.5)]


MODES = published.InterpolationMode
TRAINING = {
    "clip": crop_flip((0.08, 1.0), MODES.BICUBIC),
    "tip-adapter": crop_flip((0.5, 1.0), MODES.BICUBIC),
    "snell-fgvc": [*crop_flip((0.08, 1.0), MODES.BICUBIC), published.ColorJitter(0.4, 0.4, 0.4)],
    "snell-fgvc-no-aug": crop_flip((0.08, 1.0), MODES.BILINEAR),
    "vpt": [
        published.Resize(256),
        published.RandomCrop(224),
        published.RandomHorizontalFlip(0.5),
    ],
}


@pytest.mark.parametrize("size", [(300, 200), (61, 480)])
@pytest.mark.parametrize("name", TRAINING)
def test_training_equals_torchvision_draw_for_draw(name, size):
    """The same seed in our generator and in the global one: the same pixels, bit by bit."""
    image = photo(*size)
    theirs = published.Compose([*TRAINING[name], *tensor_and_norm()])
    ours = harness_transforms(name, 224, MEAN, STD).train
    for seed in range(6):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            wanted = theirs(image)
        assert torch.equal(ours.seeded(torch.Generator().manual_seed(seed))(image), wanted)


@pytest.mark.parametrize("name", ["clip", "snell-fgvc"])
def test_testing_equals_torchvision_bit_by_bit(name):
    side, mode = {"clip": (224, MODES.BICUBIC), "snell-fgvc": (256, MODES.BILINEAR)}[name]
    steps = [published.Resize(side, interpolation=mode), published.CenterCrop(224)]
    for size in SIZES:
        wanted = published.Compose([*steps, *tensor_and_norm()])(photo(*size))
        assert torch.equal(harness_transforms(name, 224, MEAN, STD).test(photo(*size)), wanted)


def test_jitter_is_pillows_three_enhancers_in_random_order():
    from fewshot_data.steps import Jitter

    image = photo(40, 30)
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    orders = set()
    for seed in range(40):
        draw = torch.Generator().manual_seed(seed)
        order = [number for number in torch.randperm(4, generator=draw).tolist() if number < 3]
        factors = [torch.empty(1).uniform_(0.6, 1.4, generator=draw).item() for _ in range(3)]
        wanted = image
        for number in order:
            wanted = enhancers[number](wanted).enhance(factors[number])
        ours = Jitter(0.4)(image, 0, torch.Generator().manual_seed(seed))
        assert np.array_equal(np.asarray(ours), np.asarray(wanted))
        orders.add(tuple(order))
    assert len(orders) == 6


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_crops_equal_timms_at_timms_boxes(interpolation):
    timm = pytest.importorskip("timm.data.transforms")
    theirs = timm.RandomResizedCropAndInterpolation(224, interpolation=interpolation)
    image, step = photo(300, 200), RandomResizedCrop((interpolation,))
    before = random.getstate()
    for seed in range(5):
        random.seed(seed)
        box = theirs.get_params(image, theirs.scale, theirs.ratio)
        random.seed(seed)
        wanted = np.asarray(theirs(image))
        assert np.array_equal(np.asarray(step.at(image, box, 224)), wanted)
    random.setstate(before)


def test_timms_own_pipeline_has_the_order_crop_flip_jitter():
    """SNELL calls it with these arguments."""
    data = pytest.importorskip("timm.data")
    theirs = data.create_transform(
        input_size=224,
        is_training=True,
        interpolation="bicubic",
        hflip=0.5,
        scale=[0.08, 1.0],
        ratio=[3 / 4, 4 / 3],
    )
    names = [type(step).__name__ for step in theirs.transforms]
    assert names[0] == "RandomResizedCropAndInterpolation"
    assert names[1:3] == ["RandomHorizontalFlip", "ColorJitter"]
    assert (theirs.transforms[2].brightness, theirs.transforms[2].hue) == ((0.6, 1.4), None)
    steps = [type(step).__name__ for step in HARNESSES["snell-fgvc"].train]
    assert steps == ["RandomResizedCrop", "Flip", "Jitter"]
    image = photo(300, 200)
    before = random.getstate(), torch.get_rng_state()
    random.seed(3), torch.manual_seed(3)
    wanted = theirs(image)
    random.seed(3)
    box = theirs.transforms[0].get_params(image, (0.08, 1.0), (3 / 4, 4 / 3))
    random.setstate(before[0]), torch.set_rng_state(before[1])
    ours = harness_transforms("snell-fgvc", 224, 0.5, 0.5, normalise="imagenet").train
    draw = torch.Generator().manual_seed(3)
    made = ours.steps[0].at(image, box, 224)
    for step in ours.steps[1:]:
        made = step(made, 224, draw)
    pixels = torch.from_numpy(np.asarray(made).copy()).permute(2, 0, 1)
    assert torch.equal(ours.finish(pixels), wanted)


def test_ssf_draws_bilinear_or_bicubic():
    image, step = photo(300, 200), HARNESSES["ssf"].train[0]
    box = (10, 20, 90, 100)
    crop = image.crop((20, 10, 120, 100))
    for number, filter_ in enumerate((BILINEAR, BICUBIC)):
        wanted = np.asarray(crop.resize((224, 224), filter_))
        assert np.array_equal(np.asarray(step.at(image, box, 224, number)), wanted)
    whole = RandomResizedCrop(step.interpolations, area=(1.0, 1.0))
    square = photo(30, 30)
    seen = {whole(square, 8, torch.Generator().manual_seed(n)).tobytes() for n in range(20)}
    assert seen == {square.resize((8, 8), filter_).tobytes() for filter_ in (BILINEAR, BICUBIC)}


def test_vpt_resizes_as_tensorflow_without_antialiasing_or_rounding():
    image, size = photo(50, 30), 20
    pixels = np.asarray(image, dtype=np.float64)

    def lines(old: int) -> np.ndarray:
        """Weights of bilinear interpolation at pixel centres: two neighbours each."""
        weights = np.zeros((size, old))
        for row in range(size):
            at = min(max((row + 0.5) * old / size - 0.5, 0), old - 1)
            low = math.floor(at)
            weights[row, low] += 1 - (at - low)
            weights[row, min(low + 1, old - 1)] += at - low
        return weights

    wanted = np.einsum("yh,hwc,xw->cyx", lines(30), pixels, lines(50)) / 255
    mean, std = (np.array(part)[:, None, None] for part in NORMALISATIONS["imagenet"])
    ours = harness_transforms("vpt-vtab", size, 0.5, 0.5, normalise="published").test(image)
    assert np.abs(ours.numpy() - (wanted - mean) / std).max() < 1e-5


def test_the_clip_harness_is_what_image_transforms_calls_crop_flip():
    image = photo(90, 60)
    ours = harness_transforms("clip", 32, MEAN, STD)
    other = image_transforms(32, MEAN, STD, train="crop_flip")
    assert torch.equal(ours.test(image), other.test(image))
    assert torch.equal(ours.train(image), other.train(image))


@pytest.mark.parametrize("name", [n for n, h in HARNESSES.items() if h.train == h.test])
def test_without_augmentation_training_is_testing(name):
    both = harness_transforms(name, 16, 0.5, 0.5)
    assert both.train is both.test
    assert both.train.fixed


@pytest.mark.parametrize("name", [n for n, h in HARNESSES.items() if h.train != h.test])
def test_augmenting_harnesses_say_that_they_are_random(name):
    both = harness_transforms(name, 16, 0.5, 0.5)
    assert (both.train.fixed, both.test.fixed) == (False, True)


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_normalisation_goes_by_name_on_both_sides(name):
    both = harness_transforms("clip", 16, 0.1, 0.2, normalise=name)
    assert (both.train.mean, both.train.std) == (both.test.mean, both.test.std)
    assert (both.test.mean, both.test.std) == NORMALISATIONS[name]


def test_normalisation_is_the_backbones_own_unless_something_else_is_said():
    assert harness_transforms("snell-vtab", 16, MEAN, STD).test.mean == MEAN
    published_ = harness_transforms("snell-vtab", 16, MEAN, STD, normalise="published")
    assert (published_.test.mean, published_.test.std) == NORMALISATIONS["imagenet"]
    assert harness_transforms("clip", 16, MEAN, STD, normalise=(0.3, 0.4)).test.std == (0.4,) * 3
    assert harness_transforms("clip", 16, 0.5, 0.5, channels=1, normalise="none").test.std == (1.0,)


def test_two_normalisations_are_possible_and_warned_about():
    """SNELL with --inception: training images keep ImageNet's numbers."""
    arguments = ("snell-fgvc", 16, 0.5, 0.5)
    with pytest.warns(UserWarning, match="normalised with.*0.485.*test images with.*0.5"):
        both = harness_transforms(*arguments, normalise="inception", normalise_train="imagenet")
    assert both.train.mean == NORMALISATIONS["imagenet"][0]
    assert both.test.mean == NORMALISATIONS["inception"][0]
    same = harness_transforms(*arguments, normalise="clip", normalise_train="clip")
    assert same.train.mean == same.test.mean


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "snel-fgvc"}, "unknown harness 'snel-fgvc': did you mean 'snell-fgvc'"),
        ({"size": 0}, "size is 0"),
        ({"channels": 4}, "channels is 4"),
        ({"normalise": "imagnet"}, "unknown normalise 'imagnet': did you mean 'imagenet'"),
        ({"normalise": (0.5, 0.5, 0.5)}, "normalise has 3 entries"),
        ({"normalise": ((0.5, 0.5), 0.5)}, "mean of normalise has 2 values for 3 channels"),
        ({"normalise": (0.5, 0.0)}, "std of normalise is"),
        ({"normalise": "clip", "channels": 1}, "mean of normalise has 3 values for 1 channels"),
        ({"normalise_train": "imagnet"}, "unknown normalise_train"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        harness_transforms(**{"name": "clip", "size": 16, "mean": 0.5, "std": 0.5, **arguments})


def test_every_dataset_of_the_registry_names_a_harness():
    from fewshot_data import list_datasets

    assert {spec.transforms for spec in list_datasets()} <= {"", *HARNESSES}


@pytest.mark.parametrize("value", ["clipp", "", 3, ["clip"]])
def test_a_dataset_cannot_name_an_unknown_harness(value):
    from fewshot_data.schema import _FIELDS

    wanted, valid = _FIELDS["transforms"]
    assert not valid(value)
    assert "snell-vtab" in wanted


@pytest.mark.parametrize("name", HARNESSES)
def test_the_fast_way_differs_by_rounding_only(name):
    for size in [(300, 200), (61, 480), (257, 256)]:
        image = photo(*size)
        slow, fast = (harness_transforms(name, 224, 0.0, 1.0, exact=e) for e in (True, False))
        difference = (fast.test(image) - slow.test(image)).abs() * 255
        assert difference.max() < 2.5
        assert (difference > 0.5).float().mean() < 0.05
        one, other = (
            both.train.seeded(torch.Generator().manual_seed(0))(image) for both in (slow, fast)
        )
        assert (one - other).abs().mean() * 255 < 1
