"""The ablations: what is compared with what, on which seeds, and how it is written and drawn."""

import io
from dataclasses import replace

import pytest
from PIL import Image

from fewshot_bench.ablations.__main__ import main
from fewshot_bench.ablations.choices import COMPARISONS, KLORA, REFERENCES, SNELL, choice_of
from fewshot_bench.ablations.paired import tasks_of
from fewshot_bench.ablations.picture import ablations_png
from fewshot_bench.ablations.table import markdown
from fewshot_bench.config import RunConfig, SnellOptions, resolve
from fewshot_bench.grid import expand, load_preset

from .made_results import failed_result, made_result, store

PAPER = SnellOptions(sparsifier="paper")


def test_the_preset_has_every_variant_that_a_table_or_the_picture_shows():
    runs = expand(load_preset("snell-ablations"))
    shown = {choice for comparison in COMPARISONS for _, choice, _ in comparison.rows}
    shown |= {other for comparison in COMPARISONS for _, _, other in comparison.rows if other}
    shown |= set(REFERENCES)
    for backbone in ("tiny-vit", "tiny-bert"):
        here = [run for run in runs if run.backbone == backbone]
        seeds = {choice: {run.seed for run in here if choice_of(run) == choice} for choice in shown}
        assert set(map(frozenset, seeds.values())) == {frozenset(range(1, 6))}
        assert {choice_of(run) for run in here} == shown
        assert len(here) == 5 * len(shown), "one rate for each variant"
    assert len({(run.steps, run.shots, run.batch_size, run.head_lr) for run in runs}) == 1


def test_every_rate_was_chosen_on_other_seeds_for_that_variant():
    runs, tried = (expand(load_preset(p)) for p in ("snell-ablations", "snell-ablation-rates"))
    assert not {run.seed for run in runs} & {run.seed for run in tried}

    def family(run):
        choice = replace(choice_of(run), mask="dynamic")  # a fixed mask has its counterpart's rate
        return replace(choice, r=8) if run.method == "klora" else choice

    rates = {}
    for run in runs:
        if run.method in ("klora", "snell"):
            rates.setdefault(family(run), set()).add(resolve(run).lr)
    assert len(rates) == 12 + 3 + 2 + 2 + 2  # sparsifiers, kernels, ranks, competing layers
    for key, chosen in rates.items():
        assert len(chosen) == 1
        assert chosen <= {run.lr for run in tried if family(run) == key}


def test_a_variant_is_what_its_method_reads():
    ignored = SnellOptions(sparsity=0.5, sparsifier="hard", r=16)
    assert choice_of(RunConfig(method="klora", snell=ignored)) == replace(KLORA, r=16)
    assert choice_of(RunConfig(method="full", snell=ignored)) == REFERENCES[1]
    assert choice_of(RunConfig(method="snell", snell=SnellOptions())) == SNELL
    assert choice_of(RunConfig(method="snell", snell=SnellOptions(sparsity=0.0))) == KLORA


def test_differences_are_of_the_same_seeds():
    runs = [made_result(c, method="snell", seed=s) for s, c in enumerate([90, 80, 70, 60])]
    runs += [made_result(c, method="snell", seed=s, snell=PAPER) for s, c in ((1, 82), (2, 73))]
    runs += [failed_result(method="snell", seed=3, snell=PAPER)]
    (task,) = tasks_of(runs)
    found = task.difference(replace(SNELL, sparsifier="paper"), SNELL)
    assert (found.mean, found.count) == (pytest.approx(0.025), 2)
    assert task.accuracy(SNELL).count == 4
    assert task.difference(SNELL, KLORA) is None
    text = markdown([task])
    assert "| paper, s = 0.9 | 77.5 ± 57.2 (2 of 3) |" in text


def test_an_asterisk_marks_an_interval_without_zero():
    def table(*paper):
        runs = [made_result(90, method="klora", seed=s) for s in range(3)]
        runs += [made_result(c, method="snell", seed=s, snell=PAPER) for s, c in enumerate(paper)]
        return markdown(tasks_of(runs))

    assert "-4.0 ± 2.5\\* |" in table(85, 86, 87)
    assert "+1.0 ± 6.6 |" in table(89, 90, 94)


def test_two_runs_that_no_comparison_tells_apart_are_refused():
    with pytest.raises(ValueError, match="two runs of seed 0 are both Choice"):
        tasks_of([made_result(lr=rate, method="snell", seed=0) for rate in (0.1, 0.2)])


def test_the_command_prints_tables_and_draws_from_files_alone(tmp_path, capsys):
    store(tmp_path, *(made_result(90, method="snell", seed=s) for s in range(2)))
    assert main([str(tmp_path), "--out", str(tmp_path / "new" / "a.png")]) == 0
    assert "SNELL, s = 0.9, r = 8 | 90.0 ± 0.0 (2)" in capsys.readouterr().out
    with Image.open(tmp_path / "new" / "a.png") as image:
        image.verify()
    assert main([str(tmp_path / "nothing")]) == 2
    assert "no folder" in capsys.readouterr().err


def test_the_picture_is_of_the_numbers_and_repeats():
    def draw(correct):
        runs = [made_result(correct + s, method="klora", seed=s) for s in range(3)]
        return ablations_png(tasks_of(runs))

    assert draw(60) == draw(60) != draw(61)
    assert Image.open(io.BytesIO(draw(60))).width > 1500
