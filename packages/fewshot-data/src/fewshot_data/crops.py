"""Random crops whose every number comes from a generator that is passed in."""

import math

import torch

__all__ = ["random_crop_box", "random_place"]

AREA = (0.08, 1.0)  # share of the image
ASPECT = (3 / 4, 4 / 3)  # width / height
ATTEMPTS = 10


def random_crop_box(
    height: int,
    width: int,
    generator: torch.Generator,
    *,
    area: tuple[float, float] = AREA,
    aspect: tuple[float, float] = ASPECT,
) -> tuple[int, int, int, int]:
    r"""Draw a box of random area, shape and place.

    Area $a \sim U(0.08, 1) \cdot hw$, aspect $\log r \sim U(\log 3/4, \log 4/3)$, sides
    $\sqrt{ar} \times \sqrt{a/r}$. A box that does not fit is drawn again; after ten attempts the
    largest centred box of an admissible shape is taken. Numbers are drawn as torchvision's
    ``RandomResizedCrop`` draws them, so that a generator with the global seed gives its boxes.

    Args:
        height: Height of the image, pixels.
        width: Width of the image, pixels.
        generator: Where the numbers come from.
        area: Smallest and largest share of the image.
        aspect: Smallest and largest width / height.

    Returns:
        Top, left, height and width of the box, pixels.

    Examples:
        >>> top, left, height, width = random_crop_box(40, 60, torch.Generator().manual_seed(0))
        >>> top + height <= 40 and left + width <= 60
        True

    Reference:
        Szegedy et al. (2015), "Going deeper with convolutions", section 6.
    """
    log_aspect = torch.log(torch.tensor(aspect)).tolist()
    for _ in range(ATTEMPTS):
        wanted = height * width * torch.empty(1).uniform_(*area, generator=generator).item()
        shape = torch.exp(torch.empty(1).uniform_(*log_aspect, generator=generator)).item()
        box_width, box_height = round(math.sqrt(wanted * shape)), round(math.sqrt(wanted / shape))
        if 0 < box_width <= width and 0 < box_height <= height:
            return (
                *random_place(height - box_height, width - box_width, generator),
                box_height,
                box_width,
            )
    box_width = min(width, max(1, round(height * aspect[1])))
    box_height = min(height, max(1, round(width / aspect[0])))
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def random_place(down: int, right: int, generator: torch.Generator) -> tuple[int, int]:
    """Draw the top left corner of a box that can be moved so far.

    Args:
        down: Largest top, pixels.
        right: Largest left, pixels.
        generator: Where the numbers come from.

    Returns:
        Top and left, pixels.

    Examples:
        >>> random_place(0, 0, torch.Generator().manual_seed(0))
        (0, 0)
    """
    top = torch.randint(0, down + 1, (1,), generator=generator).item()
    left = torch.randint(0, right + 1, (1,), generator=generator).item()
    return int(top), int(left)
