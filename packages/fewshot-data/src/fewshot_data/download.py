"""Downloads of images through torchvision, where it still has them, and what to do elsewhere."""

import inspect
from pathlib import Path
from typing import Any

from fewshot_data.registry import DatasetSpec, list_datasets

__all__ = ["can_download", "download"]

DEAD = {
    "StanfordCars": "its home is gone and torchvision no longer downloads it",
    "SUN397": "its home answers 404 since 2025",
    "ImageNet": "its archives need a registration",
}
"""Classes of torchvision that cannot download, and why."""


def can_download(spec: DatasetSpec) -> bool:
    """Whether `download` has a source for the images of a dataset.

    Args:
        spec: The dataset.

    Returns:
        Whether it does; the network is not tried.

    Examples:
        >>> from fewshot_data import load_spec
        >>> can_download(load_spec("fgvc-oxfordflower")), can_download(load_spec("fgvc-cub"))
        (True, False)
    """
    return bool(spec.download) and spec.download not in DEAD


def download(spec: DatasetSpec, root: str | Path) -> Path:
    """Download the images of a dataset into a folder, in the layout that torchvision makes.

    Only the images and the official annotations come that way. The split files of CoOp and VPT
    do not; without them the official split is used and the report says so.

    Args:
        spec: The dataset; its field ``download`` names the class of ``torchvision.datasets``.
        root: The folder of all data; the dataset becomes a folder inside it.

    Returns:
        ``root``, which `few_shot` takes as its own argument of that name.

    Raises:
        ValueError: If nothing can download it; the message names its homes and what to do there.
        FileNotFoundError: If the download failed.

    Examples:
        >>> from fewshot_data import load_spec
        >>> download(load_spec("fgvc-cub"), "data")
        ... # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: no download for 'fgvc-cub': ...
    """
    root = Path(root).expanduser()
    if not can_download(spec):
        raise ValueError(_advice(spec))
    from torchvision import datasets as library

    maker = getattr(library, spec.download, None)
    if maker is None:
        raise ValueError(f"torchvision.datasets has no class '{spec.download}' for '{spec.name}'")
    root.mkdir(parents=True, exist_ok=True)
    try:
        maker(root=str(root), **_arguments(maker))
    except Exception as error:  # of the network, of the archive and of torchvision: any kind
        raise FileNotFoundError(
            f"the download of '{spec.name}' by torchvision failed ({error}): {_by_hand(spec)}"
        ) from error
    return root


def _arguments(maker: Any) -> dict[str, Any]:
    """What a class of torchvision takes; any of its splits brings the whole archive."""
    known = inspect.signature(maker.__init__).parameters
    arguments: dict[str, Any] = {"download": True}
    if "annotation_level" in known:
        arguments["annotation_level"] = "variant"
    return {name: value for name, value in arguments.items() if name in known}


def _advice(spec: DatasetSpec) -> str:
    """Why there is no download, and what to do by hand."""
    why = DEAD.get(spec.download, "torchvision has no class for it")
    if spec.source in ("digits", "glyphs", "unicode-names"):
        return f"no download for '{spec.name}': it needs none, the data comes with the package"
    able = [other.name for other in list_datasets() if can_download(other)]
    known = f" (downloads exist for {', '.join(able)})" if able else ""
    return f"no download for '{spec.name}': {why}; {_by_hand(spec)}{known}"


def _by_hand(spec: DatasetSpec) -> str:
    """Where the data lives and where it belongs."""
    homes = [home for home in spec.homes if "dead" not in home and "404" not in home]
    where = f"get it from {' or '.join(homes)}" if homes else "no living home is known"
    hub = f", or a copy from the hub ({', '.join(spec.hub)})" if spec.hub else ""
    folder = f" and put it into '{spec.folders[0]}' below the root" if spec.folders else ""
    return f"{where}{hub}{folder}"
