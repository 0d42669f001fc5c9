"""Random crops whose every number comes from a generator that is passed in."""

import math

import torch

__all__ = ["random_crop_box"]

AREA = (0.08, 1.0)  # share of the image
ASPECT = (3 / 4, 4 / 3)  # width / height
ATTEMPTS = 10


def random_crop_box(
    height: int, width: int, generator: torch.Generator
) -> tuple[int, int, int, int]:
    r"""Draw a box of random area, shape and place.

    Area $a \sim U(0.08, 1) \cdot hw$, aspect $\log r \sim U(\log 3/4, \log 4/3)$, sides
    $\sqrt{ar} \times \sqrt{a/r}$. A box that does not fit is drawn again; after ten attempts the
    largest centred box of an admissible shape is taken.

    Args:
        height: Height of the image, pixels.
        width: Width of the image, pixels.
        generator: Where the numbers come from.

    Returns:
        Top, left, height and width of the box, pixels.

    Examples:
        >>> top, left, height, width = random_crop_box(40, 60, torch.Generator().manual_seed(0))
        >>> top + height <= 40 and left + width <= 60
        True

    Reference:
        Szegedy et al. (2015), "Going deeper with convolutions", section 6.
    """
    for _ in range(ATTEMPTS):
        area_draw, aspect_draw, top_draw, left_draw = torch.rand(4, generator=generator).tolist()
        area = height * width * (AREA[0] + area_draw * (AREA[1] - AREA[0]))
        low, high = math.log(ASPECT[0]), math.log(ASPECT[1])
        aspect = math.exp(low + aspect_draw * (high - low))
        box_width, box_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            top = min(int(top_draw * (height - box_height + 1)), height - box_height)
            left = min(int(left_draw * (width - box_width + 1)), width - box_width)
            return top, left, box_height, box_width
    box_width = min(width, max(1, round(height * ASPECT[1])))
    box_height = min(height, max(1, round(width / ASPECT[0])))
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width
