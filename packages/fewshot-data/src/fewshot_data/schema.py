"""The schema of a dataset's TOML file, and of the options a source understands."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from fewshot_data.harness import HARNESSES

__all__ = ["GROUPS", "METRICS", "check_fields", "read_options"]

METRICS = ("top1", "mean_per_class", "matthews", "f1", "pearson")
GROUPS = (
    *("embedded", "clip", "imagenet-shift", "fgvc", "few-shot-lists"),
    *("vtab-natural", "vtab-specialized", "vtab-structured", "glue", "commonsense", "own"),
)


def check_fields(values: Mapping[str, Any], file: str, *, sources: tuple[str, ...]) -> None:
    """Check every field of a dataset's TOML file: none missing, none unknown, all well typed.

    Args:
        values: The parsed file.
        file: Name of the file, for messages.
        sources: Names that the field ``source`` may take.

    Raises:
        ValueError: On the first broken field; the message names file, field and what it must be.

    Examples:
        >>> check_fields({"nmae": "x"}, "x.toml", sources=())
        Traceback (most recent call last):
        ValueError: x.toml: unknown field 'nmae'; did you mean 'name'?
    """
    for field in values:
        if field not in _FIELDS:
            close = get_close_matches(field, _FIELDS, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(_FIELDS)}"
            raise ValueError(f"{file}: unknown field '{field}'; {hint}")
    for field, (wanted, valid) in _FIELDS.items():
        if field not in values:
            if field in _OPTIONAL:
                continue
            raise ValueError(f"{file}: missing field '{field}' ({wanted})")
        if not valid(values[field]):
            raise ValueError(f"{file}: field '{field}' is {values[field]!r}; it must be {wanted}")
    if values["source"] not in sources:
        known = ", ".join(sources)
        raise ValueError(f"{file}: field 'source' is '{values['source']}'; known sources: {known}")
    if values["modality"] == "image" and not values["templates"].get("plain"):
        raise ValueError(f"{file}: field 'templates' needs plain = [...] for an image dataset")


def read_options(
    options: Mapping[str, Any], defaults: Mapping[str, Any], *, owner: str
) -> dict[str, Any]:
    """Fill in a source's defaults and refuse options that it does not know.

    Args:
        options: What the spec says.
        defaults: Every option of the source with its default; the default's type is the type
            wanted, ``None`` admits a string or nothing.
        owner: Who owns the options, for messages, such as ``"source 'folder'"``.

    Returns:
        One value for each key of ``defaults``.

    Raises:
        ValueError: On an unknown option (the closest one is offered) or one of the wrong type.

    Examples:
        >>> read_options({"share": 0.5}, {"share": 0.2, "path": ""}, owner="source 'x'")
        {'share': 0.5, 'path': ''}
    """
    for key, value in options.items():
        if key not in defaults:
            close = get_close_matches(key, defaults, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(defaults)}"
            raise ValueError(f"unknown option '{key}' for {owner}; {hint}")
        wanted = str if defaults[key] is None else type(defaults[key])
        if not (value is defaults[key] or type(value) is wanted):
            kind = {str: "text", int: "a whole number", float: "a number such as 0.5"}.get(
                wanted, f"a {wanted.__name__}"
            )
            raise ValueError(f"option '{key}' of {owner} is {value!r}; it must be {kind}")
    return {**defaults, **options}


def _is_text(value: object) -> bool:
    """Whether it is a string with something in it."""
    return isinstance(value, str) and value.strip() != ""


def _is_count(value: object) -> bool:
    """Whether it is a positive whole number (TOML's true is a Python int, so types are exact)."""
    return type(value) is int and value > 0


def _is_texts(value: object) -> bool:
    """Whether it is a list of strings, possibly empty."""
    return isinstance(value, list) and all(_is_text(entry) for entry in value)


def _is_splits(value: object) -> bool:
    """Whether it maps split names to sizes or sentences."""
    return isinstance(value, dict) and all(_is_count(v) or _is_text(v) for v in value.values())


def _is_renames(value: object) -> bool:
    """Whether it maps strings to strings."""
    return isinstance(value, dict) and all(_is_text(to) for to in value.values())


def _is_templates(value: object) -> bool:
    """Whether it maps group names to lists of templates with one place for the class name."""
    return isinstance(value, dict) and all(
        _is_texts(lines) and all(line.count("{}") == 1 for line in lines)
        for lines in value.values()
    )


_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "name": ("a name without '/', the file's own", lambda v: _is_text(v) and "/" not in v),
    "title": ("a line of text", lambda v: _is_text(v) and "\n" not in v),
    "modality": ("'image' or 'text'", lambda v: v in ("image", "text")),
    "source": ("the name of a source", _is_text),
    "classes": ("a whole number above 0", _is_count),
    "metric": (f"one of {', '.join(METRICS)}", lambda v: v in METRICS),
    "licence": ("text", _is_text),
    "citation": ("text, may be empty", lambda v: isinstance(v, str)),
    "homes": ("a list of addresses", _is_texts),
    "splits": ("a table of whole numbers or sentences", _is_splits),
    "templates": ("a table of lists of strings, each with one '{}'", _is_templates),
    "notes": ("text, may be empty", lambda v: isinstance(v, str)),
    "options": ("a table", lambda v: isinstance(v, dict)),
    "group": (f"one of {', '.join(GROUPS)}", lambda v: v in GROUPS),
    "aliases": ("a list of names", _is_texts),
    "folders": ("a list of folder names", _is_texts),
    "renames": ("a table of strings", _is_renames),
    "transforms": (
        f"one of {', '.join(HARNESSES)}",
        lambda v: isinstance(v, str) and v in HARNESSES,
    ),
    "hub": ("a list of hub ids", _is_texts),
    "class_names": ("a list of names in label order", _is_texts),
    "download": ("the name of a class of torchvision.datasets", _is_text),
}
_OPTIONAL = tuple(list(_FIELDS)[list(_FIELDS).index("options") :])
