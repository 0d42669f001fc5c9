"""Annotation files in MATLAB's format, read through SciPy and never unpickled."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["read_mat"]


def read_mat(path: Path, variables: Sequence[str], fields: Sequence[str] = ()) -> dict[str, Any]:
    """Read variables of a ``.mat`` file as lists.

    Args:
        path: The file.
        variables: Their names.
        fields: Of a struct array, the fields to read; each becomes a list.

    Returns:
        For each variable a list of numbers or strings; with ``fields`` a tuple of such lists.

    Raises:
        FileNotFoundError: If the file is not there.
        ValueError: If SciPy is not installed, the file is broken, or lacks a variable or field.

    Examples:
        >>> import tempfile
        >>> from scipy.io import savemat
        >>> file = Path(tempfile.mkdtemp()) / "setid.mat"
        >>> savemat(file, {"trnid": [[3, 1, 2]]})
        >>> read_mat(file, ("trnid",))
        {'trnid': [3, 1, 2]}
    """
    if not path.is_file():
        raise FileNotFoundError(f"no annotation file '{path}'")
    try:
        from scipy.io import loadmat
    except ImportError as error:
        fix = "pip install 'fewshot-data[matlab]'"
        raise ValueError(f"reading '{path}' needs SciPy: {fix}") from error
    try:
        content = loadmat(path, squeeze_me=True, variable_names=list(variables))
    except Exception as error:  # SciPy raises whatever the broken bytes lead it to
        raise ValueError(f"'{path}' is not a readable MATLAB file ({error!r})") from error
    lacking = [name for name in variables if name not in content]
    if lacking:
        raise ValueError(f"'{path}' has no variable '{lacking[0]}': it is another file")
    return {name: _listed(path, name, content[name], fields) for name in variables}


def _listed(path: Path, name: str, value: Any, fields: Sequence[str]) -> Any:
    """An array as a list, or the fields of a struct array as lists."""
    import numpy as np

    array = np.atleast_1d(value)
    if array.ndim != 1:
        raise ValueError(f"'{path}': variable '{name}' has shape {array.shape}, not one row")
    if not fields:
        return array.tolist()
    lacking = [field for field in fields if field not in (array.dtype.names or ())]
    if lacking:
        raise ValueError(f"'{path}': variable '{name}' has no field '{lacking[0]}'")
    return tuple([_item(entry) for entry in array[field]] for field in fields)


def _item(value: Any) -> Any:
    """A field's value without the zero-dimensional array around it."""
    return value.item() if getattr(value, "ndim", None) == 0 else value
