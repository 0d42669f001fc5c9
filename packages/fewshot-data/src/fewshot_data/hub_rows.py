"""Rows of a copy on the hub: found, loaded, and decoded one by one."""

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewshot_data.images import read_image

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Columns", "HubImages", "HubTexts", "find_columns", "load_splits"]

TEXT_NAMES = ("text", "sentence", "sentences", "review", "content", "utterance", "question")
LABEL_NAMES = ("label", "labels", "class", "category", "target", "fine_label", "intent")


@dataclass(frozen=True)
class Columns:
    """Which columns hold what.

    Args:
        sample: The column with the images or texts.
        label: The column with the labels.
        modality: ``"image"`` or ``"text"``.
        class_names: Names that the label column stores; empty where it stores none.
    """

    sample: str
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


class HubTexts(Sequence[str]):
    """Texts stored in tables, in memory.

    Args:
        parts: Tables of the ``datasets`` library.
        column: Their text column.

    Raises:
        ValueError: If a row has no text.

    Examples:
        >>> len(HubTexts([], "text"))
        0
    """

    def __init__(self, parts: Sequence[Any], column: str) -> None:
        self.texts = [text for rows in parts for text in rows[column]]
        for row, text in enumerate(self.texts, start=1):
            if not isinstance(text, str):
                raise ValueError(f"row {row} has no text in column '{column}': it holds {text!r}")

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index):  # type: ignore[override]  # a list underneath takes slices too
        """The text at ``index``."""
        return self.texts[index]


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


def find_columns(splits: Mapping[str, Any], wanted: Mapping[str, Any], identity: str) -> Columns:
    """Find the samples and labels by the types of the columns, then by usual names.

    Args:
        splits: Tables by split name.
        wanted: ``image_column``, ``text_column`` and ``label_column``, as far as given.
        identity: Whose columns they are, for messages.

    Returns:
        The columns.

    Raises:
        ValueError: If there is none, or several that may be meant.

    Examples:
        >>> from datasets import Dataset
        >>> rows = Dataset.from_dict({"text": ["yes", "no"], "label": [1, 0]})
        >>> find_columns({"train": rows}, {}, "toy").sample
        'text'
    """
    features = next(iter(splits.values())).features
    kinds = {name: type(feature).__name__ for name, feature in features.items()}
    strings = [n for n, f in features.items() if getattr(f, "dtype", "") in TEXT_TYPES]
    # A table that lost its types keeps an image as a pair of bytes and path.
    images = [n for n, f in features.items() if kinds[n] == "Image" or _is_stored_image(f)]
    if images or wanted.get("image_column"):
        modality = "image"
        sample = _pick("image", wanted.get("image_column"), images, ("image", "img"), identity)
    else:
        modality = "text"
        sample = _pick("text", wanted.get("text_column"), strings, TEXT_NAMES, identity)
    classes = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    usual = [name for name in LABEL_NAMES if name in features and name != sample]
    label = _pick("label", wanted.get("label_column"), classes or usual, LABEL_NAMES, identity)
    absent = [name for name in (sample, label) if name not in features]
    if absent:
        raise ValueError(f"'{identity}' has no column '{absent[0]}'; it has {', '.join(features)}")
    names = getattr(features[label], "names", None) or ()
    return Columns(sample, label, modality, tuple(names))


def _is_stored_image(feature: Any) -> bool:
    """Whether a column without a type holds images as the library stores them."""
    return isinstance(feature, dict) and set(feature) == {"bytes", "path"}


TEXT_TYPES = ("string", "large_string")


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
            f"'{identity}' has {which} that can be meant: name it by the option {role}_column"
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
