"""From a preset and options to the runs of a sweep.

A preset is a TOML file that holds only differences from `RunConfig`: `[defaults]`, any number of
`[[grid]]` blocks whose lists are multiplied out, and `[[override]]` blocks that set fields where
others have certain values. Options of the command line come last and win.
"""

import itertools
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fewshot_bench.config import DEFAULT_RATES, PEERS, RunConfig, run_name
from fewshot_bench.published import Published
from fewshot_bench.schema import closest, read

__all__ = [
    "Override",
    "Preset",
    "expand",
    "list_presets",
    "load_preset",
    "override",
    "preset_of_run",
]

PRESETS = Path(__file__).parent / "presets"
PLURALS = {
    "methods": "method", "backbones": "backbone", "datasets": "dataset",
    "seeds": "seed", "checkpoints": "checkpoint",
}  # fmt: skip
"""How the axes of a grid may be written; any other field keeps its name."""

AXES: dict[str, list[Any]] = {
    "method": [m for m in DEFAULT_RATES if m not in PEERS], "shots": [1, 4, 16], "seed": [1, 2, 3],
}  # fmt: skip
"""What a sweep varies when nothing says otherwise."""


@dataclass(frozen=True)
class Override:
    """Fields to `set` in every run whose fields are as in `when` (a value, or a list of them)."""

    when: dict[str, Any]
    set: dict[str, Any]


@dataclass(frozen=True)
class Preset:
    """The content of a preset file."""

    title: str = ""
    defaults: dict[str, Any] = field(default_factory=dict)
    grid: list[dict[str, Any]] = field(default_factory=list)
    override: list[Override] = field(default_factory=list)
    published: list[Published] = field(default_factory=list)
    note: str = ""
    """What to know before a number is compared."""


def list_presets() -> dict[str, Path]:
    """Find the presets that come with the harness.

    Returns:
        Name to file, by name.

    Examples:
        >>> "quickstart" in list_presets()
        True
    """
    paths = sorted(PRESETS.glob("*.toml")) + sorted(PRESETS.glob("*/*.toml"))
    return {path.relative_to(PRESETS).with_suffix("").as_posix(): path for path in paths}


def load_preset(name: str) -> Preset:
    """Read a preset and check every name in it.

    Args:
        name: One of `list_presets`, or the path of a `.toml` file of one's own.

    Returns:
        The preset, field names spelled as in `RunConfig`.

    Raises:
        ValueError: There is no such preset, or it holds something unknown; both name the closest.
        FileNotFoundError: The path of a file was given, and nothing is there.
    """
    known = list_presets()
    if name not in known and not name.endswith(".toml"):
        raise ValueError(
            f"unknown preset {name!r}: {closest(name, list(known))}; or give the path of a .toml"
        )
    path = known.get(name, Path(name))
    if not path.is_file():
        raise FileNotFoundError(f"no preset file at {name!r}: known presets: {', '.join(known)}")
    try:
        table = tomllib.loads(path.read_bytes().decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid TOML: {error}") from error
    return _checked(read(Preset, table, str(path)), str(path))


def expand(
    preset: Preset | None = None,
    axes: dict[str, list[Any]] | None = None,
    options: dict[str, Any] | None = None,
) -> list[RunConfig]:
    """Multiply everything out.

    Args:
        preset: Where to start; `None` = every method on the defaults of `RunConfig`.
        axes: Field to values, in place of the preset's own values in each of its blocks.
        options: Fields that every run gets, whatever the preset says.

    Returns:
        The runs, each once. A method that trains nothing runs once per seed, not per shots.

    Raises:
        ValueError: A value does not fit its field, or is out of range.

    Examples:
        >>> runs = expand(axes={"method": ["so", "lora"], "shots": [1]}, options={"steps": 50})
        >>> len(runs), runs[0].method, runs[0].seed, runs[0].steps
        (6, 'so', 1, 50)
    """
    preset = preset or Preset()
    usual = {**AXES, **{key: preset.defaults[key] for key in AXES if key in preset.defaults}}
    runs: dict[str, RunConfig] = {}
    for block in preset.grid or [{}]:
        for point in _points({**usual, **block, **(axes or {})}):
            fields = {**_flat(RunConfig().to_dict()), **preset.defaults, **point}
            fields = override(fields, preset.override)
            config = RunConfig.from_dict(_nested({**fields, **(options or {})}))
            runs.setdefault(run_name(config), config)
    return list(runs.values())


def override(fields: dict[str, Any], rules: Iterable[Override]) -> dict[str, Any]:
    """Apply overrides in their order; a later one sees what an earlier one set.

    Args:
        fields: Dotted field names to values.
        rules: The overrides.

    Returns:
        A new table.

    Examples:
        >>> override({"method": "so", "lr": None}, [Override({"method": ["so"]}, {"lr": 0.01})])
        {'method': 'so', 'lr': 0.01}
    """
    for rule in rules:
        if all(fields.get(key) in _values(key, value) for key, value in rule.when.items()):
            fields = {**fields, **rule.set}
    return fields


def preset_of_run(preset: Preset, config: RunConfig) -> RunConfig:
    """Give a single run what a preset says about it.

    Args:
        preset: Its `[defaults]` and the `[[override]]` blocks that fit are used, its grid is not.
        config: The run without the preset.

    Returns:
        The run with the preset.

    Raises:
        ValueError: A value does not fit its field, or is out of range.
    """
    given, usual = _flat(config.to_dict()), _flat(RunConfig().to_dict())
    typed = {key: value for key, value in given.items() if value != usual[key]}
    fields = override({**usual, **preset.defaults, **typed}, preset.override)
    return RunConfig.from_dict(_nested(fields))


def _points(block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Multiply a block's lists out."""
    lists = [_values(key, value) for key, value in block.items()]
    for values in itertools.product(*lists):
        point = dict(zip(block, values, strict=True))
        trains_nothing = DEFAULT_RATES.get(point["method"]) == (None, None)
        first = _values("shots", block["shots"])[:1]
        if not trains_nothing or [point["shots"]] == first:
            yield point


def _values(key: str, value: Any) -> list[Any]:
    """Give the values of an axis; the betas of an optimizer are one value of two numbers."""
    several = isinstance(value, list) and (
        key != "so.betas" or any(isinstance(item, list) for item in value)
    )
    return [_value(key, item) for item in (value if several else [value])]


def _value(key: str, value: Any) -> Any:
    """Translate the word for the weights that come with a backbone: TOML has no null."""
    return None if key == "checkpoint" and value == "pretrained" else value


def _checked(preset: Preset, where: str) -> Preset:
    """Spell the field names of a preset as `RunConfig` does, refusing unknown ones."""
    defaults = _fields(preset.defaults, f"{where}: [defaults]")
    return Preset(
        title=preset.title,
        defaults={key: _value(key, value) for key, value in defaults.items()},
        grid=[_fields(block, f"{where}: [[grid]]", PLURALS) for block in preset.grid],
        override=[
            Override(
                _fields(rule.when, f"{where}: [[override]] when"),
                _fields(rule.set, f"{where}: [[override]] set"),
            )
            for rule in preset.override
        ],
        published=preset.published,
        note=preset.note,
    )


def _fields(
    table: dict[str, Any], where: str, plurals: dict[str, str] | None = None
) -> dict[str, Any]:
    """Flatten a table of fields and check their names."""
    known, plurals = _flat(RunConfig().to_dict()), plurals or {}
    fields = {}
    for key, value in _flat(table).items():
        name = plurals.get(key, key)
        if name not in known:
            raise ValueError(f"{where}: unknown field {key!r}: {closest(key, [*plurals, *known])}")
        if name in fields:
            raise ValueError(f"{where}: field {name!r} is given twice, as {key!r} too: keep one")
        fields[name] = value
    return fields


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn {"so": {"T": 5}} into {"so.T": 5}."""
    pairs: dict[str, Any] = {}
    for key, value in table.items():
        inner = isinstance(value, dict)
        pairs |= _flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return pairs


def _nested(fields: dict[str, Any]) -> dict[str, Any]:
    """Turn {"so.T": 5} into {"so": {"T": 5}}."""
    table: dict[str, Any] = {}
    for key, value in fields.items():
        head, _, tail = key.partition(".")
        if tail:
            table.setdefault(head, {})[tail] = value
        else:
            table[head] = value
    return table
