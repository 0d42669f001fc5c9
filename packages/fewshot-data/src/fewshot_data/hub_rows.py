"""Rows of a copy on the hub: found, loaded, and decoded one by one."""

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewshot_data import table
from fewshot_data.images import read_image

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Columns", "HubImages", "find_columns", "find_modality", "load_splits"]

LABEL_NAMES = (*table.LABEL_NAMES, "fine_label", "cls")
TEXT_TYPES = ("string", "large_string")


@dataclass(frozen=True)
class Columns:
    """Which columns hold what.

    Args:
        samples: The column with the images or texts, or two with sentence pairs.
        label: The column with the labels.
        modality: ``"image"`` or ``"text"``.
        class_names: Names that the label column stores; empty where it stores none.
    """

    samples: tuple[str, ...]
    label: str
    modality: str
    class_names: tuple[str, ...]


class HubImages(Sequence["Image"]):
    """Images stored in tables, decoded when they are asked for.

    Args:
        parts: Tables of the ``datasets`` library.
        column: Their image column.

    Examples:
        >>> len(HubImages([], "image"))
        0
    """

    def __init__(self, parts: Sequence[Any], column: str) -> None:
        if parts:
            from datasets import Image

            # The library would turn images as EXIF says, which no published program does.
            parts = [rows.cast_column(column, Image(decode=False)) for rows in parts]
        self.parts, self.column = parts, column
        self.ends = list(accumulate(len(rows) for rows in parts))

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __getitem__(self, index):  # type: ignore[override]  # no slices: nobody takes them
        """The image at ``index``, RGB."""
        part = next(number for number, end in enumerate(self.ends) if index < end)
        row = index - (self.ends[part - 1] if part else 0)
        stored = self.parts[part][row][self.column] or {}
        if stored.get("bytes") is not None:
            content: Any = _Stored(stored["bytes"])
            content.name = f"row {row} of split {part}, {stored.get('path') or 'no file name'}"
            return read_image(content)
        if not stored.get("path"):
            raise ValueError(f"row {row} has no image in column '{self.column}': remove the row")
        return read_image(Path(stored["path"]))


class _Stored(io.BytesIO):
    """The bytes of an image, with a name for messages."""

    name = ""

    def __str__(self) -> str:
        return self.name


def load_splits(identity: str, config: str = "") -> Mapping[str, Any]:
    """Load all splits of a copy; the library keeps what it downloads, and uses it offline.

    Args:
        identity: ``owner/name`` on the hub, or a path that starts with ``.``, ``~`` or ``/``.
        config: Name of a configuration; empty for the default.

    Returns:
        Tables by split name.

    Raises:
        FileNotFoundError: If it is not there, or there is no network and no earlier download.
        ValueError: If it cannot be read, or a local folder hides it.

    Examples:
        >>> load_splits("./no-such-folder")
        Traceback (most recent call last):
        FileNotFoundError: no folder './no-such-folder': looked for a copy laid out as on the hub
    """
    local = identity.startswith((".", "~", "/")) or Path(identity).is_absolute()
    folder = Path(os.path.expanduser(identity))  # noqa: PTH111  # never raises, whatever is typed
    if local and not os.path.isdir(folder):  # noqa: PTH112
        raise FileNotFoundError(f"no folder '{identity}': looked for a copy laid out as on the hub")
    if not local and os.path.exists(folder):  # noqa: PTH110
        raise ValueError(
            f"the working directory holds '{identity}', which hides '{identity}' of the hub: "
            f"write 'hub:./{identity}' for the folder, or work from another directory"
        )
    library = _library()
    try:
        return library.load_dataset(str(folder) if local else identity, config or None)
    except (ConnectionError, FileNotFoundError) as error:
        raise FileNotFoundError(_unreachable(identity, error)) from error
    except Exception as error:  # of the library, of pyarrow and of the network: any kind
        if any(word in type(error).__name__ for word in ("Connect", "Timeout", "Offline")):
            raise FileNotFoundError(_unreachable(identity, error)) from error
        raise ValueError(f"cannot read '{identity}' of the hub: {_first_line(error)}") from error


def find_modality(splits: Mapping[str, Any]) -> str:
    """Whether a copy holds images or texts.

    Args:
        splits: Tables by split name.

    Returns:
        ``"image"`` if a column holds images, else ``"text"``.

    Examples:
        >>> from datasets import Dataset
        >>> find_modality({"train": Dataset.from_dict({"text": ["yes"]})})
        'text'
    """
    return "image" if _image_columns(next(iter(splits.values())).features) else "text"


def find_columns(splits: Mapping[str, Any], wanted: Mapping[str, Any], identity: str) -> Columns:
    """Find the samples and labels by the types of the columns, then by usual names.

    Args:
        splits: Tables by split name.
        wanted: ``image_column``, ``text_column`` and ``label_column``, as far as given; sentence
            pairs are ``"first,second"``.
        identity: Whose columns they are, for messages.

    Returns:
        The columns.

    Raises:
        ValueError: If there is none, or several that may be meant.

    Examples:
        >>> from datasets import Dataset
        >>> rows = Dataset.from_dict({"text": ["yes", "no"], "label": [1, 0]})
        >>> find_columns({"train": rows}, {}, "toy").samples
        ('text',)
    """
    features = next(iter(splits.values())).features
    images = _image_columns(features)
    if images and not wanted.get("text_column"):
        asked, modality = wanted.get("image_column"), "image"
        samples = (_pick("image", asked, images, ("image", "img"), identity),)
    else:
        modality = "text"
        samples = _text_columns(features, wanted.get("text_column"), identity)
    classes = [n for n, feature in features.items() if type(feature).__name__ == "ClassLabel"]
    usual = [name for name in LABEL_NAMES if name in features and name not in samples]
    label = _pick("label", wanted.get("label_column"), classes or usual, LABEL_NAMES, identity)
    absent = [name for name in (*samples, label) if name not in features]
    if absent:
        raise ValueError(f"'{identity}' has no column '{absent[0]}'; it has {', '.join(features)}")
    return Columns(samples, label, modality, tuple(getattr(features[label], "names", None) or ()))


def _image_columns(features: Mapping[str, Any]) -> list[str]:
    """Columns of images; a table that lost its types keeps them as pairs of bytes and path."""
    return [
        name
        for name, feature in features.items()
        if type(feature).__name__ == "Image" or _is_stored_image(feature)
    ]


def _text_columns(features: Mapping[str, Any], wanted: Any, identity: str) -> tuple[str, ...]:
    """The column with texts, or the two with sentence pairs."""
    if wanted:
        return tuple(wanted.split(","))
    strings = [n for n, f in features.items() if getattr(f, "dtype", "") in TEXT_TYPES]
    pair = next((pair for pair in table.PAIR_NAMES if set(pair) <= set(strings)), ())
    if pair and not set(strings) & set(table.TEXT_NAMES):
        return pair
    return (_pick("text", None, strings, table.TEXT_NAMES, identity),)


def _is_stored_image(feature: Any) -> bool:
    """Whether a column without a type holds images as the library stores them."""
    return isinstance(feature, dict) and set(feature) == {"bytes", "path"}


def _pick(role: str, wanted: Any, found: list[str], usual: Sequence[str], identity: str) -> str:
    """The column asked for, the only one there is, or the first with a usual name."""
    if wanted:
        return wanted
    if len(found) == 1:
        return found[0]
    named = [name for name in usual if name in found]
    if not named:
        which = f"none of the {role} columns {', '.join(found)}" if found else f"no {role} column"
        raise ValueError(
            f"'{identity}' has {which} that can be meant: name it by {role}_column=..."
        )
    return named[0]


def _library() -> Any:
    """The library, unless a folder of the same name hides it."""
    import datasets

    if not hasattr(datasets, "load_dataset"):
        place = getattr(datasets, "__file__", None) or list(getattr(datasets, "__path__", []))
        raise ValueError(
            f"'import datasets' finds {place}, which is not the Hugging Face library: a folder "
            "called datasets hides it (SO, CoOp and CLIP-LoRA have one); rename it, or work from "
            "another directory"
        )
    return datasets


def _unreachable(identity: str, error: Exception) -> str:
    """What to do about a copy that cannot be had."""
    return (
        f"cannot get '{identity}' from the Hugging Face hub ({_first_line(error)}): check the name "
        f"and the network; without a network, run 'hf download --repo-type dataset {identity} "
        "--local-dir FOLDER' where there is one, copy FOLDER here and use 'hub:./FOLDER'"
    )


def _first_line(error: Exception) -> str:
    """The error in one line."""
    lines = str(error.__cause__ or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
