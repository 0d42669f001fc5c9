"""The pages of speed benchmarks show the reviewed result files, number by number."""

from pathlib import Path

import pytest

from fewshot_bench.speed.record import read_speed
from fewshot_bench.speed.table import markdown

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGES = {
    "so-speed": "benchmarks-so.md",
    "snell-speed": "benchmarks-snell.md",
    "data-speed": "datasets/loading.md",
}
"""Folder of result files to page."""
FILES = [file for folder in PAGES for file in sorted((RESULTS / folder).glob("*.json"))]


def test_there_are_results():
    found = {folder: {f.stem for f in FILES if f.parent.name == folder} for folder in PAGES}
    assert found["so-speed"] >= {"time", "optimizer", "memory"}
    assert found["snell-speed"] >= {"time-8", "time-32", "memory", "depth", "layer"}
    assert found["data-speed"] >= {"decoding"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_the_page_shows_the_file(file):
    result = read_speed(file)
    assert result.finished
    assert not result.meta_info.git_dirty
    page = (ROOT / "docs" / PAGES[file.parent.name]).read_text(encoding="utf-8")
    assert markdown(result).strip() in page, f"put this into the page:\n\n{markdown(result)}"
