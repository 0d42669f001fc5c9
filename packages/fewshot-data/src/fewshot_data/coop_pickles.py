"""CoOp's cached draws, which are pickles: read without running anything that is in them.

A pickle is a program. The reader here knows one name, the record class of Dassl, and stands in a
class of ours for it; any other name, and with it any harmful program, is an error.
"""

import io
import pickle
from pathlib import Path
from typing import Any

from fewshot_data.listed import safe_path

__all__ = ["Datum", "read_pickle"]

MODULE, NAME = "dassl.data.datasets.base_dataset", "Datum"
STATE = {"_impath": str, "_label": int, "_domain": int, "_classname": str}
LIMIT = 64 << 20  # bytes: the largest of the real ones, all of ImageNet's, is larger and useless


class Datum:
    """Stands in for Dassl's record: path, label, domain, class name."""

    _impath: str
    _label: int
    _domain: int
    _classname: str


def read_pickle(path: str | Path, image_folder: str) -> dict[str, Any]:
    """Read ``split_fewshot/shot_<k>-seed_<s>.pkl``.

    Paths in it are absolute and belong to the machine that wrote it. What follows the name of the
    image folder is kept, so that the draw holds wherever the data lies now.

    Args:
        path: The file.
        image_folder: Name of the folder below which paths are wanted, such as ``"images"``.

    Returns:
        ``train`` and ``val`` in CoOp's split form; write it with
        `fewshot_data.drawn_split.write_drawn`.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it asks for anything but Dassl's record, or is not such a cache.

    Examples:
        >>> read_pickle("absent.pkl", "images")
        Traceback (most recent call last):
        FileNotFoundError: no cached draw 'absent.pkl'

    Reference:
        ``generate_fewshot_dataset`` in CoOp's ``datasets/*.py``.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no cached draw '{path}'")
    if path.stat().st_size > LIMIT:
        raise ValueError(f"'{path}' is larger than {LIMIT >> 20} MiB: no draw is; use its JSON")
    try:
        table = _Restricted(io.BytesIO(path.read_bytes())).load()
    except ValueError:
        raise
    except Exception as error:  # a broken pickle raises whatever it likes
        raise ValueError(f"'{path}' is not a readable cache ({error!r}): remove it") from error
    if not isinstance(table, dict) or not isinstance(table.get("train"), list):
        raise ValueError(f"'{path}' has no list 'train': it is not a cached draw of CoOp")
    rows = {
        split: [_row(entry, image_folder, str(path)) for entry in table.get(split) or []]
        for split in ("train", "val")
    }
    return {**rows, "meta": {"origin": f"CoOp's cache {path.name}"}}


class _Restricted(pickle.Unpickler):
    """An unpickler that knows one name."""

    def find_class(self, module: str, name: str) -> type:
        """Give the stand-in, or refuse."""
        if (module, name) == (MODULE, NAME):
            return Datum
        raise ValueError(
            f"the file asks for '{module}.{name}', which a draw of CoOp does not need: it is not "
            "what it says, or harmful; do not open it"
        )


def _row(entry: Any, image_folder: str, where: str) -> list[Any]:
    """One record in CoOp's split form."""
    state = vars(entry) if isinstance(entry, Datum) else {}
    for name, kind in STATE.items():
        if type(state.get(name)) is not kind:
            raise ValueError(f"'{where}': {name} is {state.get(name)!r}, not a {kind.__name__}")
    path = state["_impath"].replace("\\", "/")
    mark = f"/{image_folder}/"
    if mark not in path:
        raise ValueError(
            f"'{where}': '{path}' has no folder '{image_folder}': name the dataset's image folder"
        )
    return [safe_path(path.rpartition(mark)[2], where), state["_label"], state["_classname"]]
