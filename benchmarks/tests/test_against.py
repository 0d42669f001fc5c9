"""Our numbers beside published ones: which runs belong to which number, and what is marked."""

import io
from dataclasses import replace
from pathlib import Path

import pytest

from fewshot_bench.against import compare
from fewshot_bench.cli import main
from fewshot_bench.config import RunConfig, resolve, run_name
from fewshot_bench.grid import expand, list_presets, load_preset
from fewshot_bench.published import MEAN, MEAN_OF_GROUPS, group_of
from fewshot_bench.results import RunResult, write_result
from fewshot_bench.variants import BEST_ON_TEST, flat_config

RECIPES = [name for name in list_presets() if name.startswith("recipes/")]


def scored(result: RunResult, config: RunConfig, accuracy: float) -> RunResult:
    config = resolve(config)
    info = replace(result.run_info, config=config, name=run_name(config))
    correct = round(accuracy * 1000)
    known = replace(
        result.train_info, accuracy=correct / 1000, correct=correct, count=1000,
        error=1 - correct / 1000, metric="top1", score=correct / 1000,
    )  # fmt: skip
    return replace(result, run_info=info, train_info=known)


def runs(name: str, **when: object) -> list[RunConfig]:
    configs = expand(load_preset(name))
    return [c for c in configs if all(dict(flat_config(c))[k] == v for k, v in when.items())]


@pytest.mark.parametrize("name", RECIPES)
def test_every_published_number_is_about_runs_of_its_preset(name: str) -> None:
    preset = load_preset(name)
    cells = [dict(flat_config(c)) for c in expand(preset)]
    assert preset.published or "no" in preset.note.lower()
    for table in preset.published:
        assert table.source
        fit = [c for c in cells if all(c[k] == v for k, v in table.when.items())]
        for value, number in table.values.items():
            assert 0 < number < 100
            if value in (MEAN, MEAN_OF_GROUPS):
                assert len({c["dataset"] for c in fit}) > 1
            elif value.startswith(f"{MEAN}:"):
                group = value.partition(":")[2]
                assert [c for c in fit if group_of(c["dataset"]) == group], value
            else:
                assert [c for c in fit if str(c[table.by]) == value], (table.when, value)


def test_a_number_is_compared_over_seeds(result: RunResult) -> None:
    configs = runs("recipes/so-clip-paper", dataset="dtd", shots=4)
    assert [config.seed for config in configs] == [1, 2, 3]
    found = compare(scored(result, c, 0.65 + 0.01 * c.seed) for c in configs)
    line = next(line for line in found if "dataset dtd" in line.what)
    assert (line.published, line.best_on_test) == (66.4, False)
    assert line.ours is not None
    assert line.ours.mean == pytest.approx(67.0)
    assert line.ours.half_width == pytest.approx(2.484, abs=1e-3)
    assert line.ours.count == 3
    mean = next(line for line in found if "dataset mean" in line.what)
    assert mean.ours is None
    assert mean.missing == "1 of 11 runs of a seed are there"


def test_means_over_groups_are_not_means_over_tasks(result: RunResult) -> None:
    configs = runs("recipes/snell-vtab", seed=1, **{"snell.r": 8})
    share = {"vtab-natural": 0.9, "vtab-specialized": 0.6, "vtab-structured": 0.3}
    found = compare(scored(result, c, share[group_of(c.dataset)]) for c in configs)
    ours = {line.what.rpartition(" ")[2]: line.ours for line in found}
    assert ours[MEAN_OF_GROUPS].mean == pytest.approx(60.0)
    assert ours[MEAN].mean == pytest.approx((7 * 90 + 4 * 60 + 8 * 30) / 19)
    assert ours["mean:vtab-natural"].mean == pytest.approx(90.0)


@pytest.mark.parametrize("change", [{"lr": 1e-3}, {"steps": 7}, {"test_limit": 50}])
def test_a_run_with_another_choice_is_no_run_of_the_preset(
    change: dict[str, object], result: RunResult
) -> None:
    config = runs("recipes/so-clip-paper", dataset="dtd", shots=4)[0]
    assert compare([scored(result, config, 0.6)])
    assert not compare([scored(result, replace(config, **change), 0.6)])


def test_what_changes_no_result_may_differ(result: RunResult) -> None:
    config = runs("recipes/so-clip-paper", dataset="dtd", shots=4)[0]
    loop = replace(config.loop, accumulate=4, checkpointing=True, compile=True)
    moved = replace(config, device="cuda:1", threads=8, seed=77, loop=loop)
    assert compare([scored(result, moved, 0.6)])


def test_weights_chosen_on_the_test_set_are_marked_in_every_table(
    result: RunResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = runs("recipes/snell-fgvc", dataset="fgvc-cub", **{"snell.r": 8})[0]
    honest = scored(result, config, 0.8)
    best = replace(config, loop=replace(config.loop, selection="best-on-test"))
    flattered = scored(result, best, 0.9)
    flattered = replace(flattered, train_info=replace(flattered.train_info, selected_step=7))
    for one in (honest, flattered):
        write_result(one, tmp_path / "runs" / f"{one.run_info.name}.json")
    found = compare([honest, flattered])
    assert [line.best_on_test for line in found if "fgvc-cub" in line.what] == [False, True]
    assert main(["report", str(tmp_path), "--against-paper", "--debug"]) == 0
    shown = capsys.readouterr().out
    table, _, against = shown.partition("Against the papers")
    assert BEST_ON_TEST in table
    assert "last weights" in against
    assert BEST_ON_TEST in against
    assert "89.6" in against
    assert BEST_ON_TEST in (tmp_path / "report.html").read_text()
    assert "best-on-test" in (tmp_path / "results.csv").read_text()


def test_a_run_alone_is_marked_too(result: RunResult) -> None:
    from rich.console import Console

    from fewshot_bench.tables import run_table

    config = runs("recipes/snell-fgvc")[0]
    best = replace(config, loop=replace(config.loop, selection="best-on-test"))
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(run_table(scored(result, best, 0.9)))
    assert BEST_ON_TEST in console.export_text()
