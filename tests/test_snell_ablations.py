"""The page of SNELL's ablations shows the reviewed result files, number by number."""

from pathlib import Path

from fewshot_bench.ablations.paired import tasks_of
from fewshot_bench.ablations.table import markdown
from fewshot_bench.collect import collect
from fewshot_bench.config import run_name
from fewshot_bench.grid import expand, load_preset

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks" / "results" / "snell-ablations"


def test_the_page_shows_the_tables_of_the_reviewed_results():
    found = collect(FOLDER)
    assert not found.unreadable
    assert not found.failed
    text = markdown(tasks_of(found.results))
    page = (ROOT / "docs" / "methods" / "snell-ablations.md").read_text(encoding="utf-8")
    assert text in page, f"put this into the page:\n\n{text}"


def test_the_reviewed_results_are_the_whole_preset_and_nothing_else():
    planned = {run_name(config) for config in expand(load_preset("snell-ablations"))}
    assert {run.run_info.name for run in collect(FOLDER).results} == planned


def test_the_pictures_are_there():
    for name in ("snell-ablations.png", "snell-pattern.png"):
        content = (ROOT / "docs" / "assets" / name).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert name in (ROOT / "docs" / "methods" / "snell-ablations.md").read_text()
