"""How image files are read: what is kept in memory, and what happens to broken files."""

from dataclasses import dataclass

__all__ = ["Loading"]


@dataclass(frozen=True)
class Loading:
    """How the images of a split are read.

    Args:
        memory: Bytes that each split may keep: of transformed samples all or none, of decoded
            training images as many as fit. ``None`` is `fewshot_data.kept.CACHE_BYTES`, 1 GiB.
        on_error: What an unreadable image does: ``"raise"`` an error that names it, or ``"skip"``:
            it is left out with a warning and counted in ``Split.skipped``.
        truncated: Whether files whose end is missing are read as far as they go.
        shrink: 0, or the side in pixels that large JPEG files may be decoded down to, which is
            faster and changes pixels.

    Raises:
        ValueError: If a value makes no sense.

    Examples:
        >>> Loading(on_error="skip").truncated
        False
    """

    memory: int | None = None
    on_error: str = "raise"
    truncated: bool = False
    shrink: int = 0

    def __post_init__(self) -> None:
        if self.on_error not in ("raise", "skip"):
            raise ValueError(f"unknown on_error '{self.on_error}': known: raise, skip")
        for name in ("memory", "shrink"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: give 0 or more")
