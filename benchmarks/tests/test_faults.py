"""A few faults of each kind that need no right to mount; `nox -s faults` injects them all."""

from pathlib import Path

import pytest

from fewshot_bench.faults import FAULTS, run_faults
from fewshot_bench.faults.session import read_faults, table, write_faults
from fewshot_bench.speed.doc_page import fill_page

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "benchmarks" / "results" / "faults.json"


@pytest.mark.long
def test_nothing_is_lost(tmp_path: Path) -> None:
    counts = {"kill-sweep": 2, "damaged-files": 10, "clock-jumps": 6}
    record = run_faults(counts, seeds=4, seed=1, say=lambda text: None)
    assert record.held, record
    assert [t.injected for t in record.tallies] == [*counts.values()]
    assert read_faults(write_faults(record, tmp_path / "faults.json")) == record


def test_unknown_faults_are_named() -> None:
    with pytest.raises(ValueError, match="rain"):
        run_faults({"rain": 1}, seeds=1, seed=0, say=lambda text: None)


def test_the_page_shows_the_record() -> None:
    record = read_faults(RECORD)
    assert record.held
    assert len(record.tallies) == len(FAULTS)
    assert next(t for t in record.tallies if "sweep" in t.fault).injected >= 50
    page = (ROOT / "docs" / "steps" / "sweeps.md").read_text(encoding="utf-8")
    assert fill_page(page, "faults", table(record)) == page
