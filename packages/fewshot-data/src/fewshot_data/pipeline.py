"""Steps put together: an image becomes pixels, and a batch of pixels normalised values."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor

from fewshot_data.steps import Step, functional

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Pipeline", "Staged", "per_channel"]

_PIL_MODES = {1: "L", 3: "RGB"}


@runtime_checkable
class Staged(Protocol):
    """A transform in two stages, so that a batch crosses processes and lies in memory as bytes."""

    def pixels(self, sample: "Image") -> Tensor:
        """What depends on the image: pixels of 0..255."""
        ...

    def finish(self, pixels: Tensor) -> Tensor:
        """What is the same for all images, on one of them or on a batch."""
        ...


@dataclass(frozen=True)
class Pipeline:
    r"""Some steps, then $x = (\text{pixels} / 255 - \text{mean}) / \text{std}$ for each channel.

    Args:
        steps: What is done to the image.
        size: Height and width of the result, pixels.
        mean: Subtracted, one number for each channel; the colour mode follows from how many.
        std: Divided by, one number for each channel.
        exact: Whether steps work on Pillow's images, as in the published programs; otherwise on
            tensors, which is several times as fast and differs by rounding.
        generator: Random steps draw from it; `seeded` replaces it.

    Examples:
        >>> from PIL import Image
        >>> from fewshot_data.steps import Squash
        >>> grey = Pipeline((Squash("bicubic"),), 4, (0.5,), (0.5,))
        >>> grey(Image.new("L", (9, 7), 255)).unique()
        tensor([1.])
    """

    steps: tuple[Step, ...]
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    exact: bool = True
    generator: torch.Generator = field(
        default_factory=lambda: torch.Generator().manual_seed(0), compare=False, repr=False
    )

    @property
    def fixed(self) -> bool:
        """Whether an image always gives the same result."""
        return not any(step.random for step in self.steps)

    def __call__(self, image: "Image") -> Tensor:
        """Transform one image to float32 $(C, H, W)$."""
        return self.finish(self.pixels(image))

    def pixels(self, image: "Image") -> Tensor:
        """Apply the steps to one image: uint8 $(C, H, W)$, or float32 where a step gives it."""
        wanted = _PIL_MODES[len(self.mean)]
        made = image if image.mode == wanted else image.convert(wanted)
        made = made if self.exact else functional().pil_to_tensor(made)
        for step in self.steps:
            made = step(made, self.size, self.generator)
        tensor = made if isinstance(made, Tensor) else functional().pil_to_tensor(made)
        return tensor.contiguous()

    def finish(self, pixels: Tensor) -> Tensor:
        """Normalise pixels $(…, C, H, W)$, rounding as torchvision's ToTensor and Normalize do."""
        shape = (len(self.mean), 1, 1)
        mean, std = torch.tensor(self.mean).view(shape), torch.tensor(self.std).view(shape)
        return pixels.to(torch.float32).div(255).sub_(mean).div_(std)

    def seeded(self, generator: torch.Generator) -> "Pipeline":
        """The same transform, drawing from ``generator``."""
        return replace(self, generator=generator)


def per_channel(name: str, value: float | Sequence[float], channels: int) -> tuple[float, ...]:
    """One number for each channel.

    Args:
        name: Of the argument, for messages.
        value: One number for all channels, or one for each.
        channels: How many channels.

    Returns:
        As many numbers as channels.

    Raises:
        ValueError: If there are more or fewer numbers.

    Examples:
        >>> per_channel("mean", 0.5, 3)
        (0.5, 0.5, 0.5)
    """
    numbers = (value,) * channels if isinstance(value, int | float) else tuple(value)
    if len(numbers) != channels:
        raise ValueError(f"{name} has {len(numbers)} values for {channels} channels")
    return tuple(float(number) for number in numbers)
