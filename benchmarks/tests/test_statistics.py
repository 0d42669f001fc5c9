"""Means, intervals and which runs share a cell."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fewshot_bench.config import DEFAULT_RATES
from fewshot_bench.results import RunResult
from fewshot_bench.statistics import Block, Row, estimate, summarise

from .made_results import failed_result, made_result


def only_block(*results: RunResult) -> Block:
    (block,) = summarise(results)
    return block


def only_row(*results: RunResult) -> Row:
    (row,) = only_block(*results).rows
    return row


def test_the_interval_equals_one_worked_out_by_hand():
    # 0.90, 0.92, 0.94: s = 0.02, t(0.975, 2) = 4.302653, so 4.302653 * 0.02 / sqrt(3)
    known = estimate([0.90, 0.92, 0.94])
    assert known.mean == pytest.approx(0.92)
    assert known.half_width == pytest.approx(0.0496828, abs=1e-7)
    assert known.count == 3


@settings(deadline=None)  # the machine may be shared
@given(st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_the_interval_equals_that_of_scipy(values: list[float]):
    known = estimate(values)
    spread = math.sqrt(sum((v - known.mean) ** 2 for v in values) / (len(values) - 1))
    expected = stats.t.ppf(0.975, len(values) - 1) * spread / math.sqrt(len(values))
    assert known.half_width == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_one_run_has_no_interval():
    known = estimate([0.5])
    assert (known.mean, known.half_width, known.count) == (0.5, None, 1)


def test_no_value_is_refused():
    with pytest.raises(ValueError, match="values is empty"):
        estimate([])


def test_seeds_share_a_cell_and_shots_do_not():
    row = only_row(*(made_result(90 + s, shots=k, seed=s) for k in (1, 4) for s in range(3)))
    assert {k: cell.accuracy.count for k, cell in row.cells.items()} == {1: 3, 4: 3}
    assert row.cells[4].accuracy.mean == pytest.approx(0.91)


def test_another_option_is_another_row_whose_label_says_which():
    runs = [made_result(method="so", lr=rate, seed=s) for rate in (1e-3, 1e-2) for s in (0, 1)]
    assert {row.label for row in only_block(*runs).rows} == {"so, lr 0.001", "so, lr 0.01"}


def test_options_that_follow_the_shots_are_no_variant():
    row = only_row(made_result(shots=1, steps=20), made_result(shots=4, steps=80))
    assert sorted(row.cells) == [1, 4]


def test_a_rate_left_to_the_method_equals_the_same_rate_given():
    rate, _ = DEFAULT_RATES["lora"]
    row = only_row(
        made_result(method="lora", lr=None, seed=0), made_result(method="lora", lr=rate, seed=1)
    )
    assert row.cells[4].accuracy.count == 2


def test_random_weights_are_a_row_of_their_own():
    rows = only_block(made_result(90), made_result(40, checkpoint="random")).rows
    assert [(row.label, row.control) for row in rows] == [("so", False), ("so (random)", True)]


def test_rows_are_sorted_by_accuracy_at_the_most_shots():
    block = only_block(
        made_result(99, method="bias", shots=1),
        made_result(70, method="lora", shots=1),
        made_result(80, method="lora", shots=16),
        made_result(60, method="so", shots=1),
        made_result(85, method="so", shots=16),
    )
    assert [row.method for row in block.rows] == ["so", "lora", "bias"]


def test_a_method_that_trains_nothing_counts_each_seed_once():
    runs = [made_result(50, method="zero_shot", shots=k, seed=s) for k in (1, 4) for s in (0, 1, 2)]
    row = only_row(*runs)
    assert row.untrained
    assert {k: cell.accuracy.count for k, cell in row.cells.items()} == {1: 3, 4: 3}


def test_a_method_that_trains_nothing_fills_the_shots_that_others_ran():
    block = only_block(
        made_result(50, method="zero_shot", shots=1),
        *(made_result(shots=k) for k in (1, 4, 16)),
    )
    row = next(row for row in block.rows if row.untrained)
    assert [cell.accuracy.mean for cell in row.cells.values()] == [0.5, 0.5, 0.5]


def test_failed_runs_are_counted_but_not_averaged():
    row = only_row(made_result(90), made_result(92, seed=1), failed_result(seed=2))
    cell = row.cells[4]
    assert (cell.accuracy.mean, cell.accuracy.count, len(cell.failed)) == (0.91, 2, 1)


def test_only_failed_runs_have_no_accuracy_and_come_last():
    block = only_block(failed_result(method="bias"), made_result(3, method="so"))
    assert [row.method for row in block.rows] == ["so", "bias"]
    assert block.rows[1].cells[4].accuracy is None
    assert block.rows[1].peak_memory is None
    assert block.rows[1].step_time is None


def test_step_time_is_the_median_over_runs_of_each_quartile():
    runs = [made_result(seed=s) for s in range(3)]
    times = [(0.01, 0.02, 0.03), (0.02, 0.04, 0.05), (0.03, 0.09, 0.20)]
    slow = [
        replace(
            run,
            train_info=replace(
                run.train_info,
                step_time_s=replace(run.train_info.step_time_s, q25=a, median=b, q75=c),
            ),
        )
        for run, (a, b, c) in zip(runs, times, strict=True)
    ]
    assert only_row(*slow).step_time == (0.02, 0.04, 0.05)


def test_folders_of_one_name_keep_apart():
    blocks = summarise([made_result(dataset="a/own"), made_result(dataset="b/own")])
    assert [block.title for block in blocks] == ["tiny-vit · a/own", "tiny-vit · b/own"]
    assert only_block(made_result(dataset="a/own")).title == "tiny-vit · own"
