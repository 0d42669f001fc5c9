"""Whatever a list, table or annotation file holds, checking reports it and raises nothing."""

import json
import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewshot_data import load_spec
from fewshot_data.check import Report, check_dataset
from fewshot_data.made import layouts, make

IMAGES = (".jpg", ".jpeg", ".png")
NAMES = (
    *("dtd", "oxford_pets", "stanford_cars", "oxford_flowers", "sun397", "ucf101", "fgvc"),
    *("imagenet", "imagenet_r", "fgvc-cub", "fgvc-stanforddog", "fgvc-oxfordflower"),
    *("fs-oxford_pets", "fs-imagenet", "vtab-cifar", "rte", "mnli", "boolq", "commonsense_170k"),
)
CASES = [(name, layout) for name in NAMES for layout in layouts(load_spec(name))]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def copied(request, tmp_path_factory):
    """A spec, its root, and the content of each of its files that is not an image."""
    name, layout = request.param
    root = tmp_path_factory.mktemp(name)
    make(load_spec(name), root, layout=layout)
    files = [p for p in root.rglob("*") if p.is_file() and p.suffix.lower() not in IMAGES]
    texts = [p for p in sorted(files) if not p.name.startswith((".", "README")) and p.name != "tmp"]
    if not texts:
        pytest.skip("images alone")
    return load_spec(name), root, {path: path.read_bytes() for path in texts}


def mutate(data, content):
    """Random bytes, a cut file, changed bytes, or JSON in which one place holds something else."""
    way = data.draw(st.sampled_from(["random", "cut", "changed", "json"]))
    if way == "random":
        return data.draw(st.binary(max_size=60))
    at = data.draw(st.integers(0, max(0, len(content) - 1)))
    if way == "cut":
        return content[:at]
    if way == "json" and content[:1] in (b"{", b"["):
        try:
            return json.dumps(_replaced(data, json.loads(content))).encode()
        except ValueError:  # JSON lines
            pass
    return content[:at] + data.draw(st.binary(max_size=4)) + content[at + 2 :]


def _replaced(data, table):
    """JSON with one part replaced, at a random depth."""
    if not isinstance(table, dict | list) or not table or data.draw(st.integers(0, 3)) == 0:
        return data.draw(JSON)
    keys = list(table) if isinstance(table, dict) else range(len(table))
    key = data.draw(st.sampled_from(keys))
    table[key] = _replaced(data, table[key])
    return table


@settings(max_examples=12, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_files_are_reported_and_nothing_is_raised(copied, data):
    spec, root, files = copied
    path = data.draw(st.sampled_from(sorted(files)))
    path.write_bytes(mutate(data, files[path]))
    try:
        report = check_dataset(spec, root)
    finally:
        path.write_bytes(files[path])
    assert isinstance(report, Report)
    assert bool(report.error) != bool(report.counts)
    json.dumps(report.to_dict())


def test_an_error_of_another_kind_would_be_seen(tmp_path, monkeypatch):
    """The test above can fail: what is neither ValueError nor OSError comes through."""
    make(load_spec("dtd"), tmp_path)

    def broken(*_, **__):
        raise KeyError("train")

    monkeypatch.setattr("fewshot_data.coop.read_split_file", broken)
    with pytest.raises(KeyError):
        check_dataset(load_spec("dtd"), tmp_path)
    log = logging.getLogger("fewshot_data")
    assert (log.propagate, log.handlers, log.level) == (True, [], logging.NOTSET)  # and is restored
