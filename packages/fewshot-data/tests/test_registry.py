"""The registry: every file is valid, every mistake is named with file and field."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewshot_data import DatasetSpec, few_shot, list_datasets, load_spec
from fewshot_data.made import make
from fewshot_data.registry import REGISTRY, read_spec
from fewshot_data.sources import ON_DISK, SOURCES

from .mutations import mutated

VALID = """\
name = "toy"
title = "Toy images"
modality = "image"
source = "digits"
classes = 3
metric = "top1"
licence = "CC0"
citation = ""
homes = []
notes = ""
[splits]
train = "what the seed leaves"
test = 30
[templates]
plain = ["a photo of a {}."]
"""
REQUIRED = list(tomllib.loads(VALID))


def write(folder: Path, text: str) -> Path:
    path = folder / "toy.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_valid_file_becomes_a_frozen_spec(tmp_path):
    spec = read_spec(write(tmp_path, VALID))
    assert (spec.name, spec.classes, spec.options) == ("toy", 3, {})
    assert spec.templates == {"plain": ("a photo of a {}.",)}
    with pytest.raises(AttributeError):
        spec.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("field", REQUIRED)
def test_a_missing_field_is_named(tmp_path, field):
    values = VALID.replace(f"[{field}]", f"[{field}_]").replace(f"\n{field} =", f"\n{field}_ =")
    values = values.replace('name = "toy"', "") if field == "name" else values
    text = "\n".join(line for line in values.splitlines() if not line.startswith(f"{field}_ ="))
    if f"[{field}_]" in text:
        head, tail = text.split(f"[{field}_]")
        text = head + (tail[tail.index("[templates]") :] if field == "splits" else "")
    with pytest.raises(ValueError, match=rf"^toy\.toml: missing field '{field}'"):
        read_spec(write(tmp_path, text))


def test_an_unknown_field_offers_the_closest(tmp_path):
    with pytest.raises(ValueError, match=r"^toy\.toml: unknown field 'licens.*mean 'licence'"):
        read_spec(write(tmp_path, VALID.replace("licence", "licens")))


@pytest.mark.parametrize(
    ("field", "old", "new"),
    [
        ("name", '"toy"', "3"),
        ("name", '"toy"', '"other"'),
        ("title", '"Toy images"', '""'),
        ("modality", '"image"', '"sound"'),
        ("source", '"digits"', '"digitz"'),
        ("classes", "3", "true"),
        ("classes", "3", "0"),
        ("metric", '"top1"', '"top5"'),
        ("homes", "[]", '"https://example.org"'),
        ("homes", "[]", '["example.org"]'),
        ("folders", "notes", 'folders = ["/data"]\nnotes'),
        ("folders", "notes", 'folders = ["a/../../b"]\nnotes'),
        ("folders", "notes", 'folders = ["a", "a"]\nnotes'),
        ("hub", "notes", 'hub = ["https://huggingface.co/a/b"]\nnotes'),
        ("transforms", "notes", 'transforms = "clap"\nnotes'),
        ("class_names", "notes", 'class_names = ["one"]\nnotes'),
        ("download", "notes", 'download = "torchvision.DTD"\nnotes'),
        ("group", "notes", 'group = "klip"\nnotes'),
        ("splits", "test = 30", "tests = 30"),
        ("splits", "30", "-1"),
        ("splits", "30", "[30]"),
        ("templates", '["a photo of a {}."]', '"a photo of a {}."'),
        ("templates", '"a photo of a {}."', '"a photo"'),
        ("templates", "plain =", "fancy ="),
    ],
)
def test_a_wrong_value_is_named(tmp_path, field, old, new):
    text = VALID.replace(old, new, 1)
    assert text != VALID
    with pytest.raises(ValueError, match=rf"^toy\.toml: field '{field}' "):
        read_spec(write(tmp_path, text))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_mutated_file_is_read_or_refused_never_crashes(tmp_path, data):
    content = mutated(data, VALID.encode(), times=4, cut=3, grown=3)
    path = tmp_path / "toy.toml"
    path.write_bytes(content)
    try:
        outcome: DatasetSpec | str = read_spec(path)
    except ValueError as error:
        outcome = str(error)
    assert isinstance(outcome, DatasetSpec) or outcome.startswith("toy.toml: ")


@pytest.mark.parametrize("path", sorted(REGISTRY.glob("*.toml")), ids=lambda path: path.stem)
def test_every_dataset_of_the_registry_keeps_its_word(tmp_path, path):
    spec = load_spec(path.stem)
    assert spec in list_datasets()
    copied = spec.source in ON_DISK  # a made-up copy, in which some classes may be missing
    if copied:
        make(spec, tmp_path)
    data = few_shot(spec, 0 if copied else 1, seed=1, root=tmp_path if copied else None)
    assert data.modality == spec.modality
    assert all(data.templates)
    if not copied:
        assert len(data.class_names) == spec.classes
    if not copied and isinstance(spec.splits.get("test"), int):
        assert len(data.test) == spec.splits["test"]


def test_every_file_names_a_source_that_exists():
    from importlib.util import find_spec

    assert all(find_spec(module) for module in SOURCES.values())


def test_the_readme_of_the_registry_explains_every_field_and_its_example_is_valid(tmp_path):
    readme = (REGISTRY / "README.md").read_text(encoding="utf-8")
    assert all(f"| `{field}` |" in readme for field in [*REQUIRED, "options"])
    example = readme.split("```toml\n")[1].split("```")[0]
    (tmp_path / "digits.toml").write_text(example, encoding="utf-8")
    assert read_spec(tmp_path / "digits.toml").classes == 10


def test_an_unknown_name_offers_the_closest():
    with pytest.raises(ValueError, match=r"unknown dataset 'digtis': did you mean 'digits'\?"):
        load_spec("digtis")


@given(st.one_of(st.text(max_size=300), st.sampled_from(["", "\0", "~no-such-user/x", "x" * 300])))
def test_no_name_crashes_with_anything_but_our_errors(name):
    try:
        outcome: DatasetSpec | Exception = load_spec(name)
    except (ValueError, FileNotFoundError) as error:
        outcome = error
    assert isinstance(outcome, DatasetSpec) or "dataset" in str(outcome)


@pytest.mark.parametrize(
    "path", ["./nothing", "some/where", "where/", "data.csv", "~/no-such-folder-here"]
)
def test_a_missing_path_says_what_was_looked_for(path):
    with pytest.raises(FileNotFoundError, match=r"no dataset at .*one folder of images per class"):
        load_spec(path)


def test_a_file_of_another_kind_lists_the_known_ones(tmp_path):
    (tmp_path / "data.xlsx").touch()
    with pytest.raises(ValueError, match=r"cannot read '.*data\.xlsx'.*\.csv.*\.parquet"):
        load_spec(tmp_path / "data.xlsx")


def test_a_registry_name_wins_over_a_folder_unless_a_path_is_written(image_folder, monkeypatch):
    root = image_folder({"cat": 3, "dog": 3}, root="digits")
    monkeypatch.chdir(root.parent)
    assert load_spec("digits").source == "digits"
    assert load_spec("./digits").source == "folder"
    assert load_spec(root).name == "digits"
