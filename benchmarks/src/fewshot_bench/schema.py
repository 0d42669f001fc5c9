"""Dataclasses to plain tables and back, strictly: what is unknown, missing or mistyped is an error.

Configurations, presets and result files are all read through `read`, so a spelling mistake in any
of them gets the same answer: the closest field name.
"""

import dataclasses
import difflib
import math
import types
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

__all__ = ["closest", "plain", "read", "require"]

T = TypeVar("T")


def closest(word: str, known: list[str]) -> str:
    """Say which known name was probably meant.

    Args:
        word: What was written.
        known: The names that exist.

    Returns:
        A clause such as `did you mean 'lora'? known: lora, so`.

    Examples:
        >>> closest("laro", ["lora", "so"])
        "did you mean 'lora'? known: lora, so"
    """
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}known: {', '.join(known)}"


def require(ok: bool, name: str, value: object, rule: str) -> None:
    """Refuse a value, naming the field and the rule.

    Args:
        ok: Whether the value is allowed.
        name: The field.
        value: What it holds.
        rule: What it must be.

    Raises:
        ValueError: It is not allowed.
    """
    if not ok:
        raise ValueError(f"{name} must be {rule}, got {value!r}")


def plain(value: Any) -> Any:
    """Turn a dataclass into dictionaries, lists, strings and numbers that JSON can hold.

    Args:
        value: A dataclass instance, or anything inside one.

    Returns:
        The same content; tuples become lists, as they would in JSON.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def read(cls: type[T], table: Any, where: str) -> T:
    """Build a dataclass from a table, checking every name and type on the way.

    Args:
        cls: The dataclass to build; its annotations are the schema.
        table: What JSON or TOML gave.
        where: What to call the table in error messages: `config`, or a file name.

    Returns:
        An instance of `cls`.

    Raises:
        ValueError: A field is unknown, missing or of another type; the message names it.
    """
    if not isinstance(table, dict):
        raise ValueError(f"{where} must be a table of fields, got {_kind(table)}")
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            raise ValueError(f"{where}: unknown field {key!r}: {closest(str(key), list(fields))}")
    for name, f in fields.items():
        optional = (
            f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING
        )
        if name not in table and not optional:
            raise ValueError(f"{where}: field {name!r} is missing")
    hints = get_type_hints(cls)
    values = {key: _value(hints[key], item, f"{where}.{key}") for key, item in table.items()}
    try:
        return cls(**values)
    except ValueError as error:  # a range that the class checks itself
        raise ValueError(f"{where}: {error}") from error


def _value(hint: Any, value: Any, where: str) -> Any:
    """Check one value against one annotation; tables become dataclasses, lists become tuples."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _union(args, value, where)
    if origin is Literal:
        if value not in args or isinstance(value, bool):
            raise ValueError(f"{where} must be one of {', '.join(map(repr, args))}, got {value!r}")
        return value
    if dataclasses.is_dataclass(hint):
        return read(hint, value, where)  # type: ignore[arg-type]
    if origin is dict:
        return _dict(args, value, where)
    if origin in (tuple, list):
        return _sequence(origin, args, value, where)
    return _scalar(hint, value, where)


def _union(args: tuple[Any, ...], value: Any, where: str) -> Any:
    """Check `X | None`: the only unions that the schemas use."""
    if value is None and type(None) in args:
        return None
    inner = [arg for arg in args if arg is not type(None)]
    return _value(inner[0], value, where)


def _dict(args: tuple[Any, ...], value: Any, where: str) -> dict[str, Any]:
    """Check a table of free keys."""
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be a table, got {_kind(value)}")
    return {str(key): _value(args[1], item, f"{where}.{key}") for key, item in value.items()}


def _sequence(origin: Any, args: tuple[Any, ...], value: Any, where: str) -> Any:
    """Check a list, or a tuple of fixed length."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"{where} must be a list, got {_kind(value)}")
    fixed = origin is tuple and Ellipsis not in args
    if fixed and len(value) != len(args):
        raise ValueError(f"{where} must have {len(args)} entries, got {len(value)}")
    hints = args if fixed else (args[0],) * len(value)
    pairs = enumerate(zip(hints, value, strict=True))
    return origin(_value(hint, item, f"{where}[{i}]") for i, (hint, item) in pairs)


def _scalar(hint: type, value: Any, where: str) -> Any:
    """Check a string, a bool, an int or a finite float; an int is a valid float."""
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = _float(value, where)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ValueError(f"{where} must be {_NAMES[hint]}, got {_kind(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} must be a finite number, got {value}")
    return value


def _float(value: int, where: str) -> float:
    """Widen an int, naming the field when it is beyond every float."""
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{where} is too large for a number with decimals") from None


_NAMES = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}


def _kind(value: Any) -> str:
    """Describe a value of the wrong type without printing pages of it."""
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
