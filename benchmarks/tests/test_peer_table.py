"""The table of the README: ratios to LoRA, smallest error first, names as text."""

import pytest

from fewshot_bench.peer_table import peer_table

from .made_results import failed_result, made_result

RUNS = [
    *(made_result(80 + s, seed=s, peak=1_000_000) for s in range(3)),
    *(made_result(90 + s, seed=s, peak=4_000_000, method="dora") for s in range(3)),
    *(made_result(85 + s, seed=s, peak=2_000_000, method="lora") for s in range(3)),
    made_result(20, checkpoint="random"),
    failed_result(method="shira"),
]


def cells(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_whoever_is_better_stands_first_with_ratios_to_lora():
    head, _, *rows = cells(peer_table(RUNS))
    assert head[0] == "method"
    assert [row[0] for row in rows] == ["dora", "lora", "so"]
    assert rows[0] == ["dora", "others' methods", "9.0 ± 2.5 (3)", "1.00", "2.00"]
    assert rows[2] == ["so", "ours", "19.0 ± 2.5 (3)", "1.00", "0.50"]


def test_date_machine_and_versions_stand_below():
    said = peer_table(RUNS).splitlines()[-1]
    for fact in ("2026-11-20", "Some CPU, 1 thread", "0123456789ab", "torch 2.15.0"):
        assert fact in said


def test_without_lora_there_is_no_ratio():
    assert cells(peer_table([made_result()]))[2][3:] == ["–", "–"]


def test_several_tasks_have_a_column_and_names_stay_text():
    table = peer_table([*RUNS, made_result(dataset="a|b<script>*x*")])
    assert cells(table)[0][0] == "task"
    assert "a\\|b&lt;script>\\*x\\*" in table


def test_nothing_completed_is_an_error():
    with pytest.raises(ValueError, match="no completed run"):
        peer_table([failed_result()])
