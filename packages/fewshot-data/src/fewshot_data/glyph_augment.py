"""Batched augmentation of character drawings for pretraining: every draw from a passed generator.

It is what makes features of rendered fonts carry over to handwriting: other slants, sizes, pens
and cameras, ink staying white on black. All ranges scale with one strength in [0, 1], because
training stalls when it starts at full strength.
"""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

__all__ = ["augment", "ramp"]

ROTATION, SCALE, ASPECT, SHEAR, SHIFT = 0.22, 0.28, 0.18, 0.25, 0.12
LOW_RESOLUTION, LOW_RESOLUTION_SHARE = (10, 24), 0.3
CONTRAST, NOISE = 0.4, 0.12
RAMP_SHARE = 0.7


def ramp(step: int, steps: int) -> float:
    r"""Augmentation strength at one step of pretraining: $\min(1, t / 0.7T)$.

    Args:
        step: Steps done so far, $t$.
        steps: Steps in all, $T$.

    Returns:
        A strength between 0 and 1.

    Example:
        >>> ramp(35, 100)
        0.5
    """
    return min(1.0, step / (RAMP_SHARE * steps))


def augment(drawings: Tensor, strength: float, generator: torch.Generator, size: int = 32) -> Tensor:
    """Distorted copies of square drawings.

    Args:
        drawings: `(batch, height, width)`, white ink on black, uint8 0..255 or float 0..1.
        strength: 0 only resizes; 1 is the full range.
        generator: Source of every random draw, on the drawings' device.
        size: Height and width of the result in pixels.

    Returns:
        Images `(batch, 1, size, size)`, float in [0, 1].

    Raises:
        ValueError: The drawings have another number of dimensions.

    Example:
        >>> augment(torch.zeros(2, 40, 40), 1.0, torch.Generator().manual_seed(0)).shape
        torch.Size([2, 1, 32, 32])
    """
    if drawings.ndim != 3:
        raise ValueError(f"drawings has shape {tuple(drawings.shape)}: pass (batch, height, width)")
    images = drawings[:, None].float() / (255 if drawings.dtype == torch.uint8 else 1)
    grid = F.affine_grid(
        _affine(len(images), strength, generator), [len(images), 1, size, size], align_corners=False
    )
    images = F.grid_sample(images, grid, align_corners=False)
    images = _pen(images, strength, generator)
    images = _low_resolution(images, strength, generator)
    return _camera(images, strength, generator)


def _uniform(count: int, generator: torch.Generator) -> Tensor:
    """Numbers in [-1, 1), one per image."""
    return torch.rand(count, generator=generator, device=generator.device) * 2 - 1


def _affine(count: int, strength: float, generator: torch.Generator) -> Tensor:
    """Maps from output to input positions `(count, 2, 3)`, in units of half the cell."""
    angle = _uniform(count, generator) * ROTATION * strength
    scale = _uniform(count, generator) * SCALE * strength
    aspect = _uniform(count, generator) * ASPECT * strength
    shear = _uniform(count, generator) * SHEAR * strength
    shift = torch.stack([_uniform(count, generator), _uniform(count, generator)], dim=1)
    wide, high = torch.exp(-scale - aspect / 2), torch.exp(-scale + aspect / 2)
    cos, sin = angle.cos(), angle.sin()
    left = torch.stack([wide * cos, high * (sin + shear * cos)], dim=1)
    right = torch.stack([-wide * sin, high * (cos - shear * sin)], dim=1)
    return torch.cat(
        [left[..., None], right[..., None], shift[..., None] * SHIFT * 2 * strength], dim=2
    )


def _pen(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """A mix of each image with its thickened copy, or with its blurred one."""
    thick = F.max_pool2d(images, 3, stride=1, padding=1)
    blurred = F.avg_pool2d(images, 3, stride=1, padding=1)
    amount = (_uniform(len(images), generator) * strength)[:, None, None, None]
    other = torch.where(amount > 0, thick, blurred)
    return images + amount.abs() * (other - images)


def _low_resolution(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """A share of the batch, drawn at a few pixels and enlarged again."""
    chosen = torch.rand(len(images), generator=generator, device=images.device)
    low, high = LOW_RESOLUTION
    pixels = int(torch.randint(low, high + 1, (), generator=generator, device=images.device))
    mask = chosen < LOW_RESOLUTION_SHARE * strength
    if mask.any():
        small = F.adaptive_avg_pool2d(images[mask], pixels)
        coarse = F.interpolate(small, images.shape[-2:], mode="bicubic", align_corners=False)
        images = images.masked_scatter(mask[:, None, None, None], coarse.clamp(0, 1))
    return images


def _camera(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Weaker contrast and pixel noise, each with its own amount per image."""
    shape = (len(images), 1, 1, 1)
    contrast = 1 - CONTRAST * strength * torch.rand(shape, generator=generator, device=images.device)
    amount = NOISE * strength * torch.rand(shape, generator=generator, device=images.device)
    noise = torch.randn(images.shape, generator=generator, device=images.device)
    return (images * contrast + amount * noise).clamp(0, 1)
