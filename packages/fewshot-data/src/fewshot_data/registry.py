"""What data exists: one TOML file per dataset, read into a checked, frozen `DatasetSpec`."""

import tomllib
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from fewshot_data.schema import check_fields
from fewshot_data.sources import SOURCES
from fewshot_data.text_splits import is_text_folder

__all__ = ["DatasetSpec", "list_datasets", "load_spec", "read_spec"]

REGISTRY = Path(__file__).parent / "datasets_registry"
TABLE_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")


@dataclass(frozen=True)
class DatasetSpec:
    """The facts about one dataset; `datasets_registry/README.md` explains every field.

    Args:
        name: The name that `load_spec` and `few_shot` take.
        title: A human-readable title, one line.
        modality: ``"image"`` or ``"text"``.
        source: Which entry of `fewshot_data.sources.SOURCES` opens it.
        classes: Number of classes, checked when the data is opened; ``None`` for one's own data.
        metric: How accuracy is counted: ``"top1"``.
        licence: Licence of the data, as its owners state it.
        citation: Whom to cite; empty where nobody asks for it.
        homes: Addresses where the data lives.
        splits: Size of each split: a number of samples, or a sentence where there is no number.
        templates: Prompt templates with ``{}`` for the class name, by group; ``"plain"`` is used.
        notes: What a reader should know before trusting a number.
        options: What the source needs to know; each source checks its own.
        group: Which family of datasets it belongs to, such as ``"clip"`` or ``"vtab-natural"``.
        aliases: Other names that `load_spec` takes.
        folders: Names of its folder below the root of all data, the preferred one first.
        renames: Class-name clean-ups, from the name on disk to the one in a prompt.
        transforms: The harness whose transforms the published numbers used.
        hub: Ids of copies on the Hugging Face hub.
        class_names: Names in label order, where the labels of other copies are checked by them.
        download: The class of torchvision that downloads the images; empty where there is none.
        root: Folder that holds the data's folder, or the data's folder; see `at`.

    Examples:
        >>> load_spec("digits").modality
        'image'
    """

    name: str
    title: str
    modality: str
    source: str
    classes: int | None
    metric: str = "top1"
    licence: str = "unknown"
    citation: str = ""
    homes: tuple[str, ...] = ()
    splits: dict[str, int | str] = field(default_factory=dict)
    templates: dict[str, tuple[str, ...]] = field(default_factory=dict)
    notes: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    group: str = "own"
    aliases: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    renames: dict[str, str] = field(default_factory=dict)
    transforms: str = ""
    hub: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    download: str = ""
    root: Path | None = None

    def at(self, root: str | Path) -> "DatasetSpec":
        """The same dataset, looked for at a place on disk.

        Args:
            root: The folder that holds all datasets, or this dataset's own folder.

        Returns:
            A new spec.

        Examples:
            >>> load_spec("digits").at("/data").root
            PosixPath('/data')
        """
        return replace(self, root=Path(root).expanduser())


def list_datasets() -> tuple[DatasetSpec, ...]:
    """All datasets of the registry, sorted by name.

    Returns:
        One `DatasetSpec` per TOML file.

    Raises:
        ValueError: If a file breaks the schema; the file and the field are named.

    Examples:
        >>> "digits" in [spec.name for spec in list_datasets()]
        True
    """
    return tuple(read_spec(path) for path in sorted(REGISTRY.glob("*.toml")))


def load_spec(name_or_path: str | Path) -> DatasetSpec:
    """Find a dataset by its registry name, or describe one's own data by its path.

    A registry name wins over a file or folder of the same name; write ``./name`` for the latter.

    Args:
        name_or_path: A name of `list_datasets`; or ``hub:owner/name`` for a dataset of the Hugging
            Face hub; or a folder with one folder of images per class;
            or a ``.csv``, ``.tsv``, ``.json``, ``.jsonl`` or ``.parquet`` file with a text and a
            label column, or a folder with one for each split or saved by ``save_to_disk``.

    Returns:
        The spec; for a path it is made on the spot, with ``classes=None``.

    Raises:
        ValueError: If the name is unknown (the closest ones are offered) or the file is of a kind
            that cannot be read.
        FileNotFoundError: If a path was given and nothing is there.

    Examples:
        >>> load_spec("digits").classes
        10
    """
    text = str(name_or_path)
    if text.startswith("hub:"):
        from fewshot_data.hub import describe_hub

        return describe_hub(text)
    names = sorted(path.stem for path in REGISTRY.glob("*.toml"))
    if text in names:
        return read_spec(REGISTRY / f"{text}.toml")
    for spec in list_datasets() if isinstance(name_or_path, str) else ():
        if text in spec.aliases:
            return spec
    path, kind = _look(text)
    if kind == "folder":
        return _table_spec(path) if is_text_folder(path) else _folder_spec(path)
    if kind == "file":
        return _table_spec(path)
    written_as_path = (
        text.startswith(("~", ".")) or "/" in text or len(path.parts) > 1 or path.suffix
    )
    if written_as_path or isinstance(name_or_path, Path):
        raise FileNotFoundError(
            f"no dataset at '{text}': looked for a folder with one folder of images per class, "
            f"or a text file ({', '.join(TABLE_SUFFIXES)})"
        )
    close = get_close_matches(text, names, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    raise ValueError(
        f"unknown dataset '{text}': {hint}known: {', '.join(names)}; "
        "or give the path of a folder of class folders or of a text file"
    )


def read_spec(path: Path) -> DatasetSpec:
    """Read one TOML file of the registry.

    Args:
        path: The file; its stem must be the dataset's name.

    Returns:
        The checked spec.

    Raises:
        ValueError: If the file is not TOML or breaks the schema; the file and field are named.

    Examples:
        >>> read_spec(REGISTRY / "digits.toml").source
        'digits'
    """
    try:
        values = tomllib.loads(path.read_bytes().decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name}: not valid TOML: {error}") from error
    check_fields(values, path.name, sources=tuple(SOURCES))
    if values["name"] != path.stem:
        raise ValueError(
            f"{path.name}: field 'name' is '{values['name']}'; it must match the file name, "
            f"so write '{path.stem}' or rename the file"
        )
    values["templates"] = {group: tuple(lines) for group, lines in values["templates"].items()}
    for name in {"homes", "aliases", "folders", "hub", "class_names"} & values.keys():
        values[name] = tuple(values[name])
    return DatasetSpec(**values)


def _look(text: str) -> tuple[Path, str]:
    """The path that a text means, and what is there: ``folder``, ``file`` or nothing."""
    try:
        path = Path(text).expanduser()
        kind = "folder" if text and path.is_dir() else "file" if path.is_file() else ""
    except (OSError, ValueError, RuntimeError):  # a name that no file and no user can have
        return Path(text), ""
    return path, kind


def _folder_spec(path: Path) -> DatasetSpec:
    """Describe a folder of class folders."""
    return DatasetSpec(
        name=path.resolve().name,
        title=f"images in '{path}'",
        modality="image",
        source="folder",
        classes=None,
        templates={"plain": ("a photo of a {}.",)},
        options={"path": str(path)},
    )


def _table_spec(path: Path) -> DatasetSpec:
    """Describe a file, or a folder of files, with a text and a label column."""
    if path.is_file() and path.suffix.lower() not in TABLE_SUFFIXES:
        raise ValueError(
            f"cannot read '{path}' as a dataset: known text files are {', '.join(TABLE_SUFFIXES)}; "
            "images go into one folder per class"
        )
    return DatasetSpec(
        name=path.resolve().name if path.is_dir() else path.stem,
        title=f"texts in '{path}'",
        modality="text",
        source="table",
        classes=None,
        templates={"plain": ("{}",)},
        options={"path": str(path)},
    )
