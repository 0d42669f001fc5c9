"""Rows of a JSON array or of JSON lines: found once, parsed when they are asked for."""

import json
import re
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

__all__ = ["JsonRows"]

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_GAP = re.compile(r"[ \t\r\n]*")


class JsonRows(Sequence[dict[str, Any]]):
    """The objects of a JSON file, which may be one array or one object after another.

    Opening the file checks all of it and remembers where each object lies, 16 bytes an object.
    An object is read and parsed when it is asked for, so a file of 100 MB stays on disk.

    Args:
        path: The file, UTF-8, with or without a byte order mark.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not JSON, or holds something else than objects; the line is named.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.json"
        >>> _ = path.write_text('[{"answer": "true"}, {"answer": "false"}]')
        >>> JsonRows(path)[1]
        {'answer': 'false'}
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise FileNotFoundError(f"no file '{path}': looked for a JSON file of that exact name")
        content = path.read_bytes()
        try:
            content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"cannot read '{path}' as JSON: not UTF-8 ({error.reason})") from error
        # Latin-1 has one character for every byte, so places in the text are places in the file;
        # what JSON is made of is ASCII, and no byte of a longer UTF-8 character is.
        text = content.decode("latin-1")
        start = len(BYTE_ORDER_MARK) if content.startswith(BYTE_ORDER_MARK) else 0
        self._starts, self._ends = array("Q"), array("Q")
        for begin, end in _objects(text, start, path):
            self._starts.append(begin)
            self._ends.append(end)

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index):  # type: ignore[override]  # no slices: nobody takes them
        """The object at ``index``."""
        with self.path.open("rb") as file:
            return self._read(file, index)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with self.path.open("rb") as file:
            for index in range(len(self)):
                yield self._read(file, index)

    def _read(self, file: Any, index: int) -> dict[str, Any]:
        """Read and parse one object."""
        start, end = self._starts[index], self._ends[index]
        file.seek(start)
        try:
            return json.loads(file.read(end - start))
        except ValueError as error:
            raise ValueError(f"'{self.path}' has changed since it was opened: {error}") from error


def _objects(text: str, at: int, path: Path) -> Iterator[tuple[int, int]]:
    """Start and end of every object; anything between them but white space, or commas, is wrong."""
    decoder = json.JSONDecoder()
    at = _skip(text, at)
    is_array = text.startswith("[", at)
    at = _skip(text, at + 1) if is_array else at
    first = True
    while at < len(text) and not (is_array and first and text[at] == "]"):
        if text[at] != "{":
            raise _broken(text, at, path, f"{text[at]!r} where an object should begin")
        try:
            _, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise _broken(text, error.pos, path, error.msg) from error
        except (RecursionError, ValueError) as error:  # too deep, or a number of too many digits
            raise _broken(text, at, path, str(error)) from error
        yield at, end
        first, at = False, _skip(text, end)
        if is_array and text.startswith(",", at):
            at = _skip(text, at + 1)
        elif is_array:
            break
    if is_array:
        if not text.startswith("]", at):
            raise _broken(text, at, path, "',' or ']' is missing")
        at = _skip(text, at + 1)
        if at < len(text):
            raise _broken(text, at, path, "something follows the array")


def _skip(text: str, at: int) -> int:
    """The place of the next character that is not white space."""
    match = _GAP.match(text, at)
    return match.end() if match else at


def _broken(text: str, at: int, path: Path, what: str) -> ValueError:
    """The error for a file that is not made of objects."""
    line = text.count("\n", 0, at) + 1
    return ValueError(
        f"cannot read '{path}' as JSON: line {line}: {what} "
        "(an array of objects, or one object a line, is what can be read)"
    )
