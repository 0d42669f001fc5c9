"""The site as files: its links hold, stale pages go, and what lies beside it is linked."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from fewshot_bench.collect import collect
from fewshot_bench.report import write_report
from fewshot_bench.statistics import Estimate, summarise
from fewshot_bench.web.links import broken_links
from fewshot_bench.web.marks import panels
from fewshot_bench.web.pages import Links
from fewshot_bench.web.site import write_site

from .made_results import made_result, store


@dataclass
class Line:
    """A published number beside ours."""

    preset: str = "so-cub"
    what: str = "dataset cub"
    published: float = 88.7
    ours: Estimate | None = None
    missing: str = ""
    source: str = "table 1"


def write(folder: Path, **choices: object) -> Path:
    found = collect(folder)
    return write_site(folder / "report", folder, found, summarise(found.results), **choices)


def test_every_link_of_the_site_holds_and_a_broken_one_is_found(tmp_path: Path):
    store(tmp_path, made_result(dataset="../../etc <b>"), made_result(method="lora"))
    write_report(tmp_path)
    site = tmp_path / "report"
    assert len(list(site.glob("*.html"))) == 1 + 1 + 2 + 2
    assert broken_links(site) == []
    (site / "method-so.html").unlink()
    (site / "x.html").write_text('<a href="index.html#nowhere">')
    found = broken_links(site)
    assert "x.html: index.html#nowhere" in found
    assert "index.html: method-so.html" in found


def test_pages_of_what_is_no_more_are_removed_and_nothing_else(tmp_path: Path):
    first, _ = store(tmp_path, made_result(), made_result(method="lora"))
    write_report(tmp_path)
    (tmp_path / "report" / "notes.html").write_text("my own")
    first.unlink()
    write_report(tmp_path)
    names = {path.name for path in (tmp_path / "report").glob("*.html")}
    assert "method-so.html" not in names
    assert {"method-lora.html", "notes.html"} <= names


def test_docs_and_history_are_linked_where_they_lie_beside_the_site(tmp_path: Path):
    store(tmp_path, made_result())
    assert "Documentation" not in write(tmp_path).read_text(encoding="utf-8")
    for place in ("index.html", "history/index.html"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text("<p>")
    text = write(tmp_path).read_text(encoding="utf-8")
    assert '<a href="../index.html">Documentation' in text
    assert '<a href="../history/index.html">History' in text


@pytest.mark.parametrize(
    "line", [Line(ours=Estimate(88.1, 0.4, 3)), Line(missing="2 of 3 runs are there")]
)
def test_published_numbers_stand_beside_ours(tmp_path: Path, line: Line):
    store(tmp_path, made_result())
    text = write(tmp_path, links=Links(), paper=[line]).read_text(encoding="utf-8")
    assert '<td data-value="88.7">88.7</td>' in text
    assert ("88.1 ± 0.4 (3)" if line.ours else line.missing) in text


def test_the_marks_are_what_the_runs_measured():
    runs = [made_result(80 + s, seed=s, method=m) for s in range(3) for m in ("so", "galore")]
    (panel,) = panels(summarise(runs))
    marks = {mark["method"]: mark for mark in panel["marks"]}
    assert marks["so"]["group"] == "ours"
    assert marks["galore"]["group"] == "others"
    assert marks["so"]["error"] == pytest.approx(19)
    assert (marks["so"]["memory"], marks["so"]["step"]) == (2.0, 10.0)
