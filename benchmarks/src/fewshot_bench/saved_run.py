"""`run.json`: what a saved model was made from, beside its weights."""

import json
from dataclasses import dataclass
from pathlib import Path

from fewshot_bench.atomic import check_place
from fewshot_bench.config import RunConfig, recorded
from fewshot_bench.schema import plain, read

__all__ = ["SavedRun", "check_folder", "read_record", "write_record"]

RUN_FILE = "run.json"


@dataclass(frozen=True)
class SavedRun:
    """The content of `run.json`."""

    config: RunConfig
    correct: int
    count: int
    accuracy: float
    class_names: tuple[str, ...]
    schema_version: int = 1


def check_folder(folder: str | Path) -> None:
    """Make sure that a folder can be written, and that nothing is overwritten that is not ours.

    Args:
        folder: Where `save` is going to write.

    Raises:
        ValueError: It is a file, or holds files and no saved run.
        OSError: It cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"cannot save to {folder}: it is a file; give a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / RUN_FILE).is_file():
        raise ValueError(
            f"cannot save to {folder}: it holds other files (no {RUN_FILE} of an earlier save); "
            "give an empty or a new folder"
        )
    check_place(folder)


def write_record(record: SavedRun, folder: Path) -> None:
    """Write `run.json`.

    Args:
        record: Its content.
        folder: An existing folder.
    """
    table = {**plain(record), "config": recorded(record.config)}
    text = json.dumps(table, indent=1, allow_nan=False)
    (folder / RUN_FILE).write_text(text + "\n", encoding="utf-8")


def read_record(folder: Path) -> SavedRun:
    """Read `run.json`.

    Args:
        folder: A saved run.

    Returns:
        Its content.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is damaged.
    """
    path = folder / RUN_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no saved run (no {RUN_FILE}): give a folder that `fewshot run --save` "
            "wrote"
        )
    try:
        return read(SavedRun, json.loads(path.read_text(encoding="utf-8")), str(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
