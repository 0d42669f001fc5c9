"""Decoded images, kept in memory as far as they fit, for transforms that differ every time."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Decoded"]

BLOCK = 64


class Decoded(Sequence["Image"]):
    """Images that are decoded when they are first asked for and then remembered, up to a limit.

    What does not fit is decoded again whenever it is asked for. A copy that is sent to another
    process is empty; one that a fork makes shares what is there.

    Args:
        images: The images, decoded on access.
        memory: Bytes that may be kept. Pillow holds an RGB pixel in 4 bytes.

    Examples:
        >>> from PIL import Image
        >>> images = Decoded([Image.new("RGB", (10, 10)), Image.new("L", (10, 10))], memory=450)
        >>> [image.size for image in images], images.held
        ([(10, 10), (10, 10)], 400)
    """

    def __init__(self, images: Sequence["Image"], memory: int) -> None:
        self.images, self.memory = images, memory
        self.held = 0
        self._kept: dict[int, Image] = {}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index):  # type: ignore[override]  # no slices: nobody takes them
        """The image at ``index``."""
        image = self._kept.get(index)
        if image is None:
            image = self.images[index]
            self._keep(index, image)
        return image

    def __getstate__(self) -> dict[str, Any]:
        """What another process is sent."""
        return {"images": self.images, "memory": self.memory, "held": 0, "_kept": {}}

    def fill(self, indices: Sequence[int], threads: int) -> None:
        """Decode images ahead, until the limit is reached.

        Args:
            indices: Which.
            threads: That decode at the same time.

        Examples:
            >>> from PIL import Image
            >>> images = Decoded([Image.new("L", (10, 10))], memory=100)
            >>> images.fill([0], threads=2)
            >>> images.held
            100
        """
        missing = [index for index in dict.fromkeys(indices) if index not in self._kept]
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(missing), BLOCK):
                block = missing[start : start + BLOCK]
                for index, image in zip(block, pool.map(self._readable, block), strict=True):
                    if image is not None and not self._keep(index, image):
                        return

    def _readable(self, index: int) -> "Image | None":
        """The image, or nothing: a broken file is reported when it is drawn, not before."""
        try:
            return self.images[index]
        except ValueError:
            return None

    def _keep(self, index: int, image: "Image") -> bool:
        """Remember an image, if it fits."""
        size = image.width * image.height * (1 if image.mode in ("1", "L", "P") else 4)
        fits = self.held + size <= self.memory
        if fits:
            self._kept[index] = image
            self.held += size
        return fits
