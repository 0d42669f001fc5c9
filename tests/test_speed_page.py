"""The page of SO's speed shows the reviewed result files, number by number."""

from pathlib import Path

import pytest

from fewshot_bench.speed.record import read_speed
from fewshot_bench.speed.table import markdown

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "benchmarks" / "results" / "so-speed").glob("*.json"))


def test_there_are_results():
    assert {file.stem for file in FILES} >= {"time", "optimizer", "memory"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_page_shows_the_file(file):
    result = read_speed(file)
    assert not result.meta_info.git_dirty
    page = (ROOT / "docs" / "benchmarks-so.md").read_text(encoding="utf-8")
    assert markdown(result).strip() in page, f"put this into the page:\n\n{markdown(result)}"
