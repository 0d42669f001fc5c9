"""Result and preset files from strangers: refused with a reason, or shown as text; no crash."""

import contextlib
import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fewshot_bench.collect import collect
from fewshot_bench.grid import expand, load_preset
from fewshot_bench.report import write_report
from fewshot_bench.results import read_result
from fewshot_bench.runs_csv import runs_csv
from fewshot_bench.statistics import summarise
from fewshot_bench.web.pages import Links, pages
from fewshot_bench.web.slugs import PLAIN, page_name

from .made_results import made_result, store

SCRIPT = "</script><script>alert(1)</script>"
STRANGE = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.sampled_from([
        10**400, -(10**400), 1e308, -1e308, 2**63, -1, 0, "", "NaN", "\ud800", "\x00", SCRIPT,
        "../../etc/passwd", "/etc/passwd", "C:\\con", ".", "..", "a" * 5000, "$x$", "{{ 7*7 }}",
        [], {}, [[]], {"a": {"b": [1]}}, [1e308, 1e308], "so", "random", "failed",
    ]),
)  # fmt: skip
TABLE = made_result(80).to_dict()


def spots(table: Any, at: tuple = ()) -> list[tuple]:
    """List where something stands in nested tables and lists."""
    items = table.items() if isinstance(table, dict) else enumerate(table)
    found = []
    for key, value in items:
        found.append((*at, key))
        if isinstance(value, dict | list):
            found += spots(value, (*at, key))
    return found


@st.composite
def mutated(draw: st.DrawFn, table: dict) -> dict:
    """Change, remove or add one to three things."""
    table = copy.deepcopy(table)
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(spots(table)))
        place = table
        for key in way:
            place = place[key]
        what = draw(st.sampled_from(["change", "change", "remove", "add"]))
        if what == "change":
            place[last] = copy.deepcopy(draw(STRANGE))  # later changes go into it
        elif what == "remove":
            del place[last]
        elif isinstance(place, dict):
            place[draw(st.text(max_size=8))] = copy.deepcopy(draw(STRANGE))
        if not table:
            break
    return table


def shown(folder: Path) -> None:
    """Do what the report does, less the drawing."""
    found = collect(folder)
    blocks = summarise(found.results)
    made = pages(folder, found, blocks, Links())
    for name, html in made.items():
        assert Path(name).name == name
        assert SCRIPT not in html
        html.encode()
    runs_csv(found.results).encode()


def changed(*way: str, to: object) -> dict:
    table = copy.deepcopy(TABLE)
    place = table
    for key in way[:-1]:
        place = place[key]
    place[way[-1]] = to
    return table


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(mutated(TABLE))
@example(changed("train_info", "peak_memory_bytes", to=10**400))
@example(changed("train_info", "accuracy", to=1e308))
@example(changed("run_info", "config", "dataset", to="\ud800"))
@example(changed("run_info", "config", "method", to=SCRIPT))
@example(changed("run_info", "config", "backbone", to="../../x"))
@example(changed("run_info", "config", "shots", to=10**400))
@example(changed("run_info", "created_at", to=""))
def test_no_result_file_breaks_the_report(tmp_path_factory, table: dict):
    folder = tmp_path_factory.mktemp("strange")
    store(folder, made_result(90, method="lora"), made_result(91, seed=1))
    path = folder / "runs" / "zz.json"
    path.write_text(json.dumps(table))
    try:
        read_result(path)
    except ValueError as error:
        refused = str(error)
    else:
        refused = ""
    assert not refused or str(path) in refused
    shown(folder)


@pytest.mark.parametrize(
    "table",
    [
        changed("run_info", "config", "method", to=SCRIPT),
        changed("run_info", "config", "dataset", to="$\\frac{" + "a" * 500),
        changed("train_info", "peak_memory_bytes", to=2**63 - 1),
        changed("train_info", "step_time_s", "median", to=1e12),
        changed("train_info", "step_time_s", "q75", to=1e12),
        changed("run_info", "config", "shots", to=2**63 - 1),
        changed("run_info", "config", "backbone", to="../../\x00\n"),
    ],
)
def test_what_is_drawn_survives_too(tmp_path: Path, table: dict):
    store(tmp_path, made_result(90, method="lora"))
    (tmp_path / "runs" / "zz.json").write_text(json.dumps(table))
    before = set(tmp_path.parent.iterdir())
    html = write_report(tmp_path).read_text(encoding="utf-8")
    assert SCRIPT not in html
    assert set(tmp_path.parent.iterdir()) == before


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    mutated(
        {
            "title": "x",
            "defaults": {"steps": 5, "so": {"T": 3}},
            "grid": [{"methods": ["so"], "backbones": ["tiny-vit"], "shots": [1], "seeds": [1]}],
        }
    )
)
def test_no_preset_breaks_the_reading(tmp_path_factory, table: dict):
    path = tmp_path_factory.mktemp("preset") / "own.toml"
    path.write_bytes(toml(table).encode("utf-8", "surrogatepass"))
    with contextlib.suppress(ValueError):
        expand(load_preset(str(path)))


def toml(value: Any, top: bool = True) -> str:
    """Write as TOML; what TOML cannot say (null) is written all the same, and is invalid."""
    if isinstance(value, dict):
        pairs = [f"{json.dumps(k)} = {toml(v, False)}" for k, v in value.items()]
        return "\n".join(pairs) if top else "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(v, False) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False).replace("NaN", "nan").replace("Infinity", "inf")


@given(st.text())
def test_a_page_lies_in_its_folder_whatever_the_name(name: str):
    file = page_name("dataset", name)
    assert PLAIN.fullmatch(file.removesuffix(".html"))
    assert len(file) <= 70


@given(st.text(max_size=12), st.text(max_size=12))
def test_two_names_never_share_a_page(a: str, b: str):
    assert (page_name("method", a) == page_name("method", b)) == (a == b)


def test_plain_names_cannot_pose_as_hashed_ones():
    assert page_name("method", "Foo") != page_name("method", page_name("method", "Foo")[7:-5])
