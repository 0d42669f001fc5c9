"""JSON files as rows: arrays and lines alike, and the same values as parsing them whole."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewshot_data.json_rows import JsonRows

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
ROWS = st.lists(st.dictionaries(st.text(max_size=4), VALUES, max_size=3), max_size=5)
PER_TEST = [HealthCheck.function_scoped_fixture]


def written(path, content):
    path.write_bytes(content)
    return JsonRows(path)


@settings(suppress_health_check=PER_TEST)
@given(ROWS, st.sampled_from([None, 4]), st.booleans(), st.booleans(), st.sampled_from("\n ,"))
def test_rows_are_those_of_the_whole_file(tmp_path, rows, indent, ascii_only, mark, gap):
    dumped = json.dumps(rows, indent=indent, ensure_ascii=ascii_only)
    lines = "\n".join(json.dumps(row, ensure_ascii=ascii_only) for row in rows)
    start = b"\xef\xbb\xbf" if mark else b""
    for text in (dumped, lines):
        found = written(tmp_path / "a.json", start + text.encode("utf-8", "surrogatepass"))
        assert list(found) == rows
        assert [found[at] for at in range(len(found))] == rows


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[{"a": 1}', r"line 1: ',' or '\]' is missing"),
        (b'[{"a": 1} {"a": 2}]', "',' or '.' is missing"),
        (b'[{"a": 1}] x', "something follows the array"),
        (b'{"a": 1}\n3', "line 2: '3' where an object should begin"),
        (b'{"a": 1}\n{"a": }', "line 2: Expecting value"),
        (b'[{"a": 1}, ]', "where an object should begin"),
        (b"\xff", "not UTF-8"),
        (b'{"a":' + b"[" * 100_000, "recursion"),
        (b'{"a":' + b"1" * 5000 + b"}", "digits"),
        (b"nonsense", "an array of objects, or one object a line"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, content, message):
    with pytest.raises(ValueError, match=rf"cannot read '.*a\.json' as JSON: .*{message}"):
        written(tmp_path / "a.json", content)


@settings(suppress_health_check=PER_TEST)
@given(st.binary(max_size=80))
def test_random_bytes_are_read_or_refused(tmp_path, content):
    try:
        outcome = all(isinstance(row, dict) for row in written(tmp_path / "a.json", content))
    except ValueError as error:
        outcome = "a.json" in str(error)
    assert outcome


def test_a_missing_file_and_a_changed_one_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file '.*a\.json'"):
        JsonRows(tmp_path / "a.json")
    rows = written(tmp_path / "a.json", b'{"a": 1}\n{"a": 2}')
    (tmp_path / "a.json").write_bytes(b"shorter")
    with pytest.raises(ValueError, match="has changed since it was opened"):
        rows[1]
