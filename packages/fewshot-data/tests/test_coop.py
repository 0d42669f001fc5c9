"""CLIP's few-shot datasets: every layout, the split file's rules, and what happens without it."""

import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewshot_data import few_shot, list_datasets, load_spec
from fewshot_data.coop import MIRROR
from fewshot_data.made import make
from fewshot_data.published_draws import DRAWS, draw_hash
from fewshot_data.sources import open_source
from fewshot_data.split_file import read_split_file
from fewshot_data.verify import verify_split

SETS = [spec.name for spec in list_datasets() if spec.source == "coop"]
WITH_SPLIT = [name for name in SETS if load_spec(name).options.get("split")]
each = pytest.mark.parametrize("name", SETS)
each_split = pytest.mark.parametrize("name", WITH_SPLIT)


def opened(name, root, seed=1):
    return open_source(load_spec(name).at(root), seed=seed)


def drawn(name, root, protocol="coop"):
    data = few_shot(name, 2, seed=1, protocol=protocol, root=root)
    return draw_hash((data.names[i], data.train.labels[i]) for i in data.train.indices)


@each
def test_both_dialects_draw_the_same_images(name, tmp_path):
    for layout in ("coop", "so"):
        make(load_spec(name), tmp_path / layout, layout=layout)
    for protocol in ("coop", "so", "nested"):
        assert drawn(name, tmp_path / "coop", protocol) == drawn(name, tmp_path / "so", protocol)
    assert drawn(name, tmp_path / "coop", "coop") != drawn(name, tmp_path / "coop", "so")


@each
@pytest.mark.parametrize("way", ["lower", "upper", "spaces"])
def test_spelling_of_the_folder_does_not_matter(name, way, tmp_path):
    folder = make(load_spec(name), tmp_path)
    other = {
        "lower": folder.name.lower(),
        "upper": folder.name.upper(),
        "spaces": folder.name.replace("_", " ").replace("-", " "),
    }[way]
    expected = opened(name, tmp_path).names
    folder.rename(folder.with_name("aside")).rename(folder.with_name(other))
    assert opened(name, tmp_path).names == expected


@each_split
def test_without_the_split_file_the_release_is_split_anew_and_says_so(name, tmp_path, caplog):
    folder = make(load_spec(name), tmp_path, layout="original")
    with caplog.at_level(logging.WARNING):
        raw = opened(name, tmp_path)
    assert not raw.published
    assert "not the published split" in raw.origin
    assert "not the published split" in caplog.text
    assert opened(name, tmp_path).train_indices == raw.train_indices
    assert raw.names == opened(name, tmp_path, seed=1).names != opened(name, tmp_path, seed=2).names
    for part in (raw.train_indices, raw.test_indices):
        assert {raw.labels[i] for i in part} == set(range(4))
    assert not list(folder.glob("split_*"))  # nothing is written unless it is asked for


@each_split
def test_labels_and_names_are_those_of_the_split_file(name, tmp_path):
    """What the release says, read by another way, agrees with what CoOp wrote."""
    if name == "fgvc":
        pytest.skip("it has no split file")
    make(load_spec(name), tmp_path / "split", layout="coop")
    make(load_spec(name), tmp_path / "release", layout="original")
    ours, theirs = (opened(name, tmp_path / place) for place in ("release", "split"))
    assert dict(zip(ours.names, ours.labels, strict=True)) == dict(
        zip(theirs.names, theirs.labels, strict=True)
    )
    if load_spec(name).options["style"] != "class-folders":  # renamed only where they differ
        assert ours.class_names == theirs.class_names


def test_strange_folders_of_caltech_are_left_out(tmp_path):
    make(load_spec("caltech101"), tmp_path, layout="original")
    raw = opened("caltech101", tmp_path)
    assert raw.class_names == ("AnnualCrop", "face", "airplane", "yin_yang")
    assert not any("BACKGROUND" in name or "easy" in name for name in raw.names)


def test_a_split_of_ones_own_is_used_and_is_not_the_published_one(tmp_path):
    folder = make(load_spec("dtd"), tmp_path)
    (folder / "split_zhou_DescribableTextures.json").rename(folder / "split_fewshot_data_dtd.json")
    assert not opened("dtd", tmp_path).published


def test_missing_images_are_reported_together(tmp_path):
    folder = make(load_spec("dtd"), tmp_path)
    gone = sorted((folder / "images").rglob("*.jpg"))[:12]
    for path in gone:
        path.unlink()
    with pytest.raises(FileNotFoundError, match="12 of 40 listed files are missing") as caught:
        opened("dtd", tmp_path)
    assert str(gone[0]) in str(caught.value)
    assert "and 2 more" in str(caught.value)


def test_without_anything_the_error_says_where_the_split_files_are(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        opened("oxford_pets", tmp_path)
    for part in ("split_zhou_OxfordPets.json", MIRROR, "OxfordPets", "robots.ox.ac.uk"):
        assert part in str(caught.value)


def test_multispectral_eurosat_is_named(tmp_path):
    folder = make(load_spec("eurosat"), tmp_path)
    (folder / "2750").rename(folder / "EuroSATallBands")
    for path in (folder / "EuroSATallBands").iterdir():
        path.rename(path.with_name(f"{path.name}-tif"))
    with pytest.raises(FileNotFoundError, match="multispectral"):
        opened("eurosat", tmp_path)


@pytest.mark.parametrize("place", ["EuroSAT/2750", "EuroSAT_RGB", "2750/2750"])
def test_images_one_level_deeper_or_shallower_are_found(place, tmp_path):
    folder = make(load_spec("eurosat"), tmp_path)
    (folder / "2750").rename(tmp_path / "aside")
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "aside").rename(folder / place)
    assert len(opened("eurosat", tmp_path).names) == 40


def test_links_are_followed_and_a_read_only_folder_is_enough(tmp_path):
    folder = make(load_spec("dtd"), tmp_path / "elsewhere")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dtd").symlink_to(folder)
    before = sorted(path for path in folder.rglob("*"))
    for path in before:
        path.chmod(0o555 if path.is_dir() else 0o444)
    raw = opened("dtd", tmp_path / "data")
    assert str(raw.samples.paths[0]).startswith(str(tmp_path / "data" / "dtd"))
    assert raw.samples[0].mode == "RGB"
    assert sorted(path for path in folder.rglob("*")) == before
    for path in before:
        path.chmod(0o755)


ROWS = {"train": [["a.jpg", 0, "owl"], ["b.jpg", 1, "crow"]], "val": [], "test": []}
BROKEN = {
    "has no list 'val'": {"train": ROWS["train"], "test": []},
    "leaves the dataset's folder": {**ROWS, "val": [["../c.jpg", 0, "owl"]]},
    "leaves the dataset": {**ROWS, "val": [["/c.jpg", 0, "owl"]]},
    "listed twice": {**ROWS, "val": [["a.jpg", 0, "owl"]]},
    "two names": {**ROWS, "val": [["c.jpg", 0, "eagle"]]},
    "without gaps": {**ROWS, "val": [["c.jpg", 3, "eagle"]]},
    "not a number from 0": {**ROWS, "val": [["c.jpg", "0", "owl"]]},
    "not a number": {**ROWS, "val": [["c.jpg", -1, "owl"]]},
    r"is not \[path, label, name\]": {**ROWS, "val": [["c.jpg", 0]]},
    "must be strings": {**ROWS, "val": [["c.jpg", 0, 7]]},
    "lists no image": {"train": [], "val": [], "test": []},
}


@pytest.mark.parametrize("match", BROKEN)
def test_broken_split_files_are_explained(match, tmp_path):
    path = tmp_path / "split.json"
    path.write_text(json.dumps(BROKEN[match]))
    with pytest.raises(ValueError, match=match):
        read_split_file(path)


def test_windows_paths_are_read(tmp_path):
    path = tmp_path / "split.json"
    path.write_text(json.dumps({**ROWS, "train": [["a\\b.jpg", 0, "owl"]]}))
    assert read_split_file(path)["train"][0].path == "a/b.jpg"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=12,
)


@given(st.one_of(st.binary(max_size=60), JSON, st.fixed_dictionaries(
    {"train": JSON, "val": JSON, "test": JSON})))  # fmt: skip
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_split_file_crashes_with_anything_but_our_errors(tmp_path, content):
    path = tmp_path / "split.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    try:
        outcome: object = any(read_split_file(path).values())
    except ValueError as error:
        outcome = str(path) in str(error)
    assert outcome


@pytest.mark.skipif("FEWSHOT_REAL_SPLITS" not in os.environ, reason="needs the real split files")
@pytest.mark.parametrize("name", sorted(DRAWS))
def test_the_published_draws_are_made_again(name):
    """All hashes of spec 2.5 whose split file is in the folder."""
    root, spec = Path(os.environ["FEWSHOT_REAL_SPLITS"]), load_spec(name)
    if not any((root / place / str(spec.options.get("split"))).is_file() for place in spec.folders):
        pytest.skip(f"no split file of {name}")
    found = verify_split(spec, root)
    assert found
    assert all(one.same for one in found), found


def test_verification_needs_lists_and_no_image(tmp_path):
    spec = load_spec("dtd")
    folder = make(spec, tmp_path)
    for path in (folder / "images").rglob("*.jpg"):
        path.unlink()
    found = verify_split(spec, tmp_path)
    assert len(found) == 12
    assert not any(one.same for one in found)  # a made-up copy is not the published split


def test_unknown_options_are_refused(tmp_path):
    make(load_spec("dtd"), tmp_path)
    spec = load_spec("dtd").at(tmp_path)
    with pytest.raises(ValueError, match="unknown option 'layuot'"):
        open_source(replace(spec, options={**spec.options, "layuot": "split"}), seed=1)
    with pytest.raises(ValueError, match="'layout' is 'zip'"):
        open_source(replace(spec, options={**spec.options, "layout": "zip"}), seed=1)
