"""What a rendered character may look like: batches of images, distorted with a generator."""

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["augment", "normalise"]

SIZE = 32
MEAN, STD = 0.25, 0.4
ANGLE, LOG_SCALE, LOG_ASPECT, SHEAR, SHIFT = 0.22, 0.28, 0.18, 0.25, 0.12
LOWEST_RESOLUTION, LOW_SHARE = 10, 0.3
LEAST_CONTRAST, MOST_NOISE = 0.6, 0.12


def augment(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Distort a batch: affine map, blur or thicker strokes, low resolution, contrast, noise.

    Args:
        images: White ink on black in 0..1, `(batch, 1, 40, 40)`.
        strength: 0 leaves the middle of the images as it is, 1 is the whole range.
        generator: All randomness.

    Returns:
        Images in 0..1, `(batch, 1, 32, 32)`.

    Examples:
        >>> g = torch.Generator().manual_seed(0)
        >>> augment(torch.zeros(4, 1, 40, 40), 1.0, g).shape
        torch.Size([4, 1, 32, 32])
    """
    x = _affine(images, strength, generator)
    x = _stroke(x, strength, generator)
    x = _low_resolution(x, strength, generator)
    shape = (len(x), 1, 1, 1)
    x = x * (1 - strength * _uniform(shape, 0, 1 - LEAST_CONTRAST, generator))
    noise = torch.randn(x.shape, generator=generator)
    x = x + strength * _uniform(shape, 0, MOST_NOISE, generator) * noise
    return x.clamp(0, 1)


def normalise(images: Tensor) -> Tensor:
    """Give grey images the scale and the three channels that the tiny backbones read.

    Args:
        images: Values in 0..1, `(batch, 1, 32, 32)`.

    Returns:
        `(batch, 3, 32, 32)`.
    """
    return ((images - MEAN) / STD).expand(-1, 3, -1, -1)


def _affine(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Turn, scale, stretch, shear and shift; the middle 32×32 pixels when strength is 0."""
    count = (len(images),)
    angle = strength * _uniform(count, -ANGLE, ANGLE, generator)
    scale = torch.exp(strength * _uniform(count, -LOG_SCALE, LOG_SCALE, generator))
    aspect = torch.exp(strength * _uniform(count, -LOG_ASPECT, LOG_ASPECT, generator))
    shear = strength * _uniform(count, -SHEAR, SHEAR, generator)
    shift = strength * _uniform((len(images), 2), -2 * SHIFT, 2 * SHIFT, generator)
    scale = scale * SIZE / images.shape[-1]
    cos, sin = angle.cos() * scale, angle.sin() * scale
    top = torch.stack([cos * aspect, shear * cos - sin, shift[:, 0]], dim=-1)
    bottom = torch.stack([sin * aspect, shear * sin + cos, shift[:, 1]], dim=-1)
    theta = torch.stack([top, bottom], dim=1)  # (batch, 2, 3)
    grid = F.affine_grid(theta, [len(images), 1, SIZE, SIZE], align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def _stroke(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Blend every image with a blurred or a thickened copy."""
    shape = (len(x), 1, 1, 1)
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 1)
    thick = F.max_pool2d(x, 3, 1, 1)
    other = torch.where(torch.rand(shape, generator=generator) < 0.5, blurred, thick)
    return x + strength * torch.rand(shape, generator=generator) * (other - x)


def _low_resolution(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Shrink the first images of the batch to one of 10 to 26 pixels and enlarge them again."""
    side = int(torch.randint(LOWEST_RESOLUTION, 27, (), generator=generator))
    count = round(LOW_SHARE * strength * len(x))
    if count == 0:
        return x
    small = F.interpolate(x[:count], size=(side, side), mode="area")
    large = F.interpolate(small, size=(SIZE, SIZE), mode="bicubic", align_corners=False)
    return torch.cat([large.clamp(0, 1), x[count:]])


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """Uniform numbers between two bounds."""
    return low + (high - low) * torch.rand(shape, generator=generator)
