from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys

import pytest
import torch

from fewshot_bench.environment import describe
from fewshot_bench.results import StepTime
from fewshot_bench.speed.__main__ import main
from fewshot_bench.speed.limits import LIMITS, judge
from fewshot_bench.speed.machine import ENVIRONMENT, is_set
from fewshot_bench.speed.measure import count_steps, measure
from fewshot_bench.speed.options import Options
from fewshot_bench.speed.record import (
    MemoryRow,
    OptimizerRow,
    SpeedResult,
    TimeRow,
    read_speed,
    write_speed,
)
from fewshot_bench.speed.release import load_release
from fewshot_bench.speed.table import markdown

STAND_IN = """
class SO:
    def order(self, indices):
        return lexsort_indices(indices)

def lexsort_indices(indices):
    raise AssertionError
"""


def times(seconds: float) -> StepTime:
    return StepTime(seconds, seconds, seconds, 2, 5)


def time_row(variant: str, seconds: float, density: float | None = None) -> TimeRow:
    return TimeRow("vit-b-16", None, 8, variant, density, times(seconds), [seconds] * 5)


@pytest.fixture
def result() -> SpeedResult:
    """Numbers at, just above and below the bars."""
    memory = [
        MemoryRow("vit-b-16", None, 32, variant, density, peak, 1, saved, 10.0, 9, 9, 1.0)
        for variant, density, peak, saved in (
            ("floor", None, 68, 1000), ("lora", None, 100, 1600), ("so-free", 1e-3, 68, 1001),
            ("so-low", 1e-3, 46, 600),
        )
    ]  # fmt: skip
    optimizer = [
        OptimizerRow("released-so", 1e-3, 48, 10, times(0.4), times(1.0), 7000, 1488, 40.0),
        OptimizerRow("so-free", 1e-3, 48, 10, times(0.01), times(0.02), 61, 0, 28.5),
    ]
    time = [time_row("floor", 1.0), time_row("lora", 1.1), time_row("so-free", 1.05, 1e-3)]
    meta = describe("cpu", 1)
    options = {"device": "cpu"}
    return SpeedResult("now", 1.0, options, True, meta, time, memory, optimizer, {"x": "why"})


def verdicts_of(result: SpeedResult) -> dict[tuple[str, str, str | None], tuple[float, bool]]:
    return {
        (v.limit.quantity, v.limit.variant, v.limit.against): (round(v.measured, 6), v.met)
        for v in judge(result)
    }


def test_bars_are_judged_without_rounding(result):
    assert verdicts_of(result) == {
        ("step time", "so-free", "floor"): (1.05, True),
        ("step time", "so-free", "lora"): (0.954545, False),
        ("peak memory", "so-free", "lora"): (0.68, True),
        ("peak memory", "so-low", "lora"): (0.46, False),
        ("saved bytes", "so-free", "floor"): (1.001, True),
        ("optimizer time", "so-free", "released-so"): (0.025, True),
        ("operations", "so-free", None): (61, True),
        ("waits", "so-free", None): (0, True),
        ("bytes an entry", "so-free", None): (28.5, False),
    }


def test_a_shortened_measurement_says_so_beside_its_verdict(result):
    short = [dataclasses.replace(row, depth=2, batch=8) for row in result.memory]
    cautions = {v.caution for v in judge(dataclasses.replace(result, memory=short))
                if v.limit.quantity == "peak memory"}  # fmt: skip
    assert cautions == {"2 blocks only, batch 8"}
    assert not any(v.caution for v in judge(result))


def test_the_bars_are_those_of_the_issue():
    step = {(x.variant, x.against, x.density): x.most
            for x in LIMITS if x.quantity == "step time" and not x.gpu}  # fmt: skip
    assert step["so-free", "floor", 5e-5] == 1.03
    assert step["so-free", "floor", 1e-3] == 1.06
    assert {step["so-free", o, 1e-3] for o in ("lora", "strong-lora", "released-so")} == {
        0.90, 0.95, 0.72,
    }  # fmt: skip
    assert (step["so-low", "floor", 1e-3], step["so-minimal", "floor", 1e-3]) == (1.18, 1.30)
    faster = {x.density: round(1 / x.most) for x in LIMITS if x.quantity == "optimizer time"}
    assert faster == {5e-5: 15, 1e-3: 40}


def test_gpu_bars_are_for_gpus(result):
    on_gpu = dataclasses.replace(result, options={"device": "cuda"})
    found = [v for v in judge(on_gpu) if v.limit.quantity == "step time"]
    assert [(v.limit.against, v.limit.most) for v in found] == [("floor", 1.08)]


def test_tables_show_every_row_and_every_bar(result):
    text = markdown(result)
    assert "| so-free 0.001 |      1050 |" in text
    assert text.count("**missed**") == 3
    assert "- x: why" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == (2 + 3) + (2 + 4) + (2 + 2) + (2 + 9)


def test_results_survive_a_round_trip(result, tmp_path):
    path = write_speed(result, tmp_path / "new" / "speed.json")
    assert read_speed(path) == result
    path.write_text('{"schema_version": 7}')
    with pytest.raises(ValueError, match="schema_version is 7"):
        read_speed(path)


def test_a_full_disk_leaves_the_old_result(result, tmp_path, full_disk):
    path = write_speed(result, tmp_path / "speed.json")
    before = path.read_bytes()
    longer = dataclasses.replace(result, time=result.time * 500)
    with full_disk(1000), pytest.raises(OSError, match="cannot write"):
        write_speed(longer, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["speed.json"]


def test_what_cannot_be_measured_is_named_and_the_rest_is_there():
    options = Options(
        model=("tiny-vit",), parts=("time", "memory"), variants=("floor", "released-so"),
        densities=(0.01,), depth=1, batch=(2,), memory_batch=(2,), rounds=1,
    )  # fmt: skip
    said: list[str] = []
    found = measure(options, said.append)
    assert [row.variant for row in found.time] == ["floor"]
    assert [row.variant for row in found.memory] == ["floor"]
    assert set(found.left_out) == {
        "time of released-so 0.01, tiny-vit", "memory of released-so 0.01, tiny-vit",
    }  # fmt: skip
    assert all("--release" in reason for reason in found.left_out.values())
    assert 0 < len(said) <= count_steps(options)


def test_the_release_gets_a_stable_sort(tmp_path):
    folder = tmp_path / "optimizers"
    folder.mkdir()
    (folder / "SparseOptimizer.py").write_text(STAND_IN)
    released = load_release(tmp_path)()
    indices = torch.tensor([[2, 0, 2, 0], [1, 3, 0, 3]])
    assert released.order(indices).tolist() == [1, 3, 2, 0]
    with pytest.raises(ValueError, match="name a clone"):
        load_release(folder)


def test_the_command_measures_and_renders_again(tmp_path, capsys):
    out, table = tmp_path / "speed.json", tmp_path / "speed.md"
    few = ["--variants", "floor", "strong-lora", "--parts", "time", "memory", "--model", "tiny-vit"]
    short = ["--batch", "2", "--memory-batch", "2", "--rounds", "1", "--depth", "1"]
    assert main([*few, *short, "--out", str(out), "--table", str(table)]) == 0
    printed = capsys.readouterr().out
    assert json.loads(out.read_text())["options"]["depth"] == 1
    assert table.read_text() in printed
    assert str(tmp_path) not in out.read_text()
    assert main(["--render", str(out)]) == 0
    assert table.read_text() in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--rounds", "0"], "--rounds must be at least 1, got 0"),
        (["--densities", "0"], r"--densities must be in \(0, 1\], got 0.0"),
        (["--graph"], "--graph needs a CUDA device"),
        (["--model", "vit-b-17"], "did you mean 'vit-b-16'"),
        (["--variants", "flor"], "did you mean 'floor'"),
        (["--model", "tiny-vit", "--depth", "9", "--parts", "memory"], "between 1 and 3"),
        (["--render", "nowhere.json"], "nowhere.json"),
        (["--release", "nowhere"], "name a clone of nairouz/SO"),
    ],
)
def test_bad_input_is_one_line(typed, said, capsys, tmp_path):
    assert main([*typed, "--out", str(tmp_path / "x.json")]) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert re.search(said, error), error
    assert not (tmp_path / "x.json").exists()


def test_help_answers_without_torch():
    code = "import sys; from fewshot_bench.speed.__main__ import main\n"
    code += "try: main(['--help'])\nexcept SystemExit: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--memory-batch" in done.stdout
    assert done.stdout.endswith("False\n")


def test_the_process_starts_itself_again_with_the_right_environment(tmp_path):
    assert not is_set({})
    assert is_set({**ENVIRONMENT, "HOME": "x"})
    assert not is_set({**ENVIRONMENT, "OMP_NUM_THREADS": "2"})
    out = tmp_path / "speed.json"
    command = [sys.executable, "-m", "fewshot_bench.speed", "--model", "tiny-vit", "--depth", "1"]
    command += ["--variants", "floor", "--parts", "time", "--batch", "1", "--rounds", "1"]
    environment = {"PATH": "/usr/bin:/bin"}
    subprocess.run([*command, "--out", out], check=True, capture_output=True, env=environment)
    assert read_speed(out).allocator_set is True
