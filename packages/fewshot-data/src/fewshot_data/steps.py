"""The single steps of image transforms: resizing, cropping, mirroring, jittering colours."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch

from fewshot_data.crops import AREA, ASPECT, random_crop_box, random_place

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    *("CentreCrop", "Flip", "Jitter", "RandomCrop", "RandomResizedCrop"),
    *("ResizeShorter", "Squash", "SquashFloat", "Step"),
]


class Step(Protocol):
    """One step: from an image and the size of the result to an image, or to a tensor of pixels.

    Images are Pillow's, or tensors of pixels, for which torchvision's functions round differently.
    Random steps draw from the generator, in the order in which torchvision draws.
    """

    random: ClassVar[bool]

    def __call__(self, image: Any, size: int, generator: torch.Generator) -> Any:
        """Apply the step."""
        ...


@dataclass(frozen=True)
class ResizeShorter:
    r"""Resize so that the shorter side is $\lfloor \text{size} / \text{crop share} \rfloor$.

    Args:
        interpolation: ``"bicubic"``, ``"bilinear"`` or ``"nearest"``.
        share: What part of that side a centre crop takes afterwards.
    """

    interpolation: str
    share: float = 1.0
    random: ClassVar[bool] = False

    def __call__(self, image: "Image", size: int, generator: torch.Generator) -> "Image":
        """Resize one image."""
        side = math.floor(size / self.share)
        return functional().resize(image, [side], interpolation=mode(self.interpolation))


@dataclass(frozen=True)
class Squash:
    """Resize to a square, whatever the shape was."""

    interpolation: str
    random: ClassVar[bool] = False

    def __call__(self, image: "Image", size: int, generator: torch.Generator) -> "Image":
        """Resize one image."""
        return functional().resize(image, [size, size], interpolation=mode(self.interpolation))


@dataclass(frozen=True)
class SquashFloat:
    """Resize to a square as TensorFlow does: bilinear, not antialiased, values not rounded."""

    random: ClassVar[bool] = False

    def __call__(self, image: "Image", size: int, generator: torch.Generator) -> torch.Tensor:
        """Resize one image to float32 ``(C, size, size)`` of 0..255."""
        pixels = image if isinstance(image, torch.Tensor) else functional().pil_to_tensor(image)
        pixels = pixels.to(torch.float32)
        sides = {"size": (size, size), "mode": "bilinear", "align_corners": False}
        return torch.nn.functional.interpolate(pixels[None], **sides, antialias=False)[0]


@dataclass(frozen=True)
class CentreCrop:
    """Take the square in the middle."""

    random: ClassVar[bool] = False

    def __call__(self, image: "Image", size: int, generator: torch.Generator) -> "Image":
        """Crop one image."""
        return functional().center_crop(image, [size, size])


@dataclass(frozen=True)
class RandomResizedCrop:
    """Take a box of random area, shape and place, and resize it to a square.

    Args:
        interpolations: One, or several of which one is drawn for each image.
        area: Smallest and largest share of the image.
    """

    interpolations: Sequence[str]
    area: tuple[float, float] = AREA
    random: ClassVar[bool] = True

    def __call__(self, image: "Image", size: int, generator: torch.Generator) -> "Image":
        """Crop one image with the generator's next draws."""
        height, width = functional().get_size(image)
        box = random_crop_box(height, width, generator, area=self.area, aspect=ASPECT)
        number = 0
        if len(self.interpolations) > 1:
            number = int(torch.randint(len(self.interpolations), (1,), generator=generator))
        return self.at(image, box, size, number)

    def at(
        self, image: "Image", box: tuple[int, int, int, int], size: int, number: int = 0
    ) -> "Image":
        """Crop one image at a known box (top, left, height, width)."""
        filter_ = mode(self.interpolations[number])
        return functional().resized_crop(image, *box, [size, size], filter_)


@dataclass(frozen=True)
class RandomCrop:
    """Take a square at a random place, without resizing."""

    random: ClassVar[bool] = True

    def __call__(self, image: "Image", size: int, generator: torch.Generator) -> "Image":
        """Crop one image with the generator's next draws."""
        height, width = functional().get_size(image)
        if (height, width) == (size, size):
            return image
        top, left = random_place(height - size, width - size, generator)
        return functional().crop(image, top, left, size, size)


@dataclass(frozen=True)
class Flip:
    """Mirror half of the images, left to right."""

    random: ClassVar[bool] = True

    def __call__(self, image: "Image", size: int, generator: torch.Generator) -> "Image":
        """Mirror one image, or not."""
        mirrored = torch.rand(1, generator=generator).item() < 0.5
        return functional().hflip(image) if mirrored else image


@dataclass(frozen=True)
class Jitter:
    """Change brightness, contrast and saturation by random factors, in random order.

    Args:
        strength: Factors lie in 1 ± strength.
    """

    strength: float
    random: ClassVar[bool] = True

    def __call__(self, image: "Image", size: int, generator: torch.Generator) -> "Image":
        """Change one image with the generator's next draws."""
        order = torch.randperm(4, generator=generator).tolist()  # the fourth would be the hue
        low, high = max(0.0, 1 - self.strength), 1 + self.strength
        factors = [torch.empty(1).uniform_(low, high, generator=generator).item() for _ in range(3)]
        vision = functional()
        change = (vision.adjust_brightness, vision.adjust_contrast, vision.adjust_saturation)
        for number in order:
            if number < 3:
                image = change[number](image, factors[number])
        return image


def functional() -> Any:
    """Torchvision's functions on images, imported late; untyped, for it declares tensors only."""
    from torchvision.transforms.v2 import functional

    return functional


def mode(interpolation: str) -> Any:
    """The resampling filter under torchvision's name."""
    from torchvision.transforms.v2 import InterpolationMode

    return InterpolationMode(interpolation)
