"""The documentation's page of datasets is what the registry says, and nothing is left out."""

from pathlib import Path

import pytest

from fewshot_data import list_datasets, load_spec
from fewshot_data.made import MAKERS
from fewshot_data.page import datasets_page, layout_lines

PAGE = Path(__file__).parents[3] / "docs" / "datasets" / "index.md"


@pytest.fixture(scope="module")
def page():
    return datasets_page()


@pytest.mark.skipif(not PAGE.is_file(), reason="the documentation is not beside the package")
def test_the_page_in_the_documentation_is_the_current_one(page):
    same = PAGE.read_text(encoding="utf-8") == page
    assert same, "the registry changed: run `nox -s datasets_page`"


@pytest.mark.parametrize("spec", list_datasets(), ids=lambda spec: spec.name)
def test_every_dataset_has_its_facts(page, spec):
    own = page.split(f"\n### {spec.name}\n")[1].split("\n### ")[0]
    assert f"(#{spec.name})" in page
    for fact in (spec.title, spec.notes, spec.licence, spec.citation, *spec.homes, *spec.hub):
        assert fact in own
    for word in (*spec.aliases, *spec.folders, *spec.templates.get("plain", ())):
        assert f"`{word}`" in own
    assert ("```text" in own) == (spec.source in MAKERS)


def test_files_are_those_that_copies_have(tmp_path):
    assert layout_lines(load_spec("rte")) == [
        f"rte/{split}-00000-of-00001.parquet" for split in ("test", "train", "validation")
    ]
    assert layout_lines(load_spec("digits")) == []
    assert [line for line in layout_lines(load_spec("vtab-dtd")) if line.endswith("…")] == [
        "vtab-1k/dtd/images/…"
    ]
