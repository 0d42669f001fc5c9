from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from fewshot_bench.environment import describe
from fewshot_bench.results import StepTime
from fewshot_bench.speed.depth_picture import depth_png
from fewshot_bench.speed.doc_page import fill_page
from fewshot_bench.speed.limits import LIMITS, judge
from fewshot_bench.speed.measure import PARTS, count_steps, measure
from fewshot_bench.speed.options import PRESETS, Options, SnellOptions, check_options
from fewshot_bench.speed.record import (
    MemoryRow,
    PieceRow,
    SpeedResult,
    ThresholdRow,
    TimeRow,
    TransientRow,
    read_speed,
    write_speed,
)
from fewshot_bench.speed.session import continues
from fewshot_bench.speed.snell import main
from fewshot_bench.speed.table import markdown
from fewshot_bench.speed.variants import VARIANTS
from fewshot_bench.speed.whole_steps import depths_of

FEW = ("floor", "full")


def times(seconds: float) -> StepTime:
    return StepTime(seconds, seconds, seconds, 2, 5)


def time_row(variant: str, seconds: float, batch: int) -> TimeRow:
    return TimeRow("vit-b-16", None, batch, variant, None, times(seconds), [seconds] * 5)


def memory_row(variant: str, peak: int, saved: int, depth: int | None = None) -> MemoryRow:
    return MemoryRow("vit-l-16", depth, 8, variant, None, peak, 1, saved, 10.0, 9, 9, 1.0)


@pytest.fixture
def result() -> SpeedResult:
    """Numbers at, just above and below the bars."""
    return SpeedResult(
        created_at="now",
        total_time_s=1.0,
        options={"device": "cpu", "snell_kernels": True},
        allocator_set=True,
        meta_info=describe("cpu", 1),
        time=[
            time_row("full", 1.0, 8), time_row("released-snell", 2.0, 8),
            time_row("snell", 1.06, 8), time_row("snell-torch", 1.2, 8),
            time_row("released-snell", 2.0, 32), time_row("snell", 1.25, 32),
        ],
        memory=[
            memory_row("floor", 68, 1000), memory_row("lora", 100, 1600),
            memory_row("released-snell", 101, 1600), memory_row("snell", 70, 1001),
        ],
        depth=[memory_row(v, n * 2**20, 9, n) for v in ("lora", "snell") for n in (1, 3)],
        transient=[TransientRow("snell", 768, 768, 8, 4 * 768 * 768, 6 * 768 * 768)],
        threshold=[
            ThresholdRow("torch.quantile", 768, 3072, 0.9, times(1.0), 11, 1),
            ThresholdRow("order_statistic", 768, 3072, 0.9, times(0.1), 10, 0),
        ],
        pieces=[
            PieceRow("update", "snell", 3072, 768, r, times(0.001), 4 * 2**20) for r in (8, 16)
        ],
    )  # fmt: skip


def test_bars_of_snell_are_judged_at_their_batch_size_and_layer(result):
    found = {
        (v.limit.quantity, v.limit.variant, v.limit.against, v.limit.batch, v.place): v.met
        for v in judge(result)
    }
    assert found == {
        ("step time", "snell-torch", "full", 8, "vit-b-16"): True,
        ("step time", "snell", "full", 8, "vit-b-16"): False,
        ("step time", "snell", "released-snell", 8, "vit-b-16"): True,
        ("step time", "snell", "released-snell", 32, "vit-b-16"): False,
        ("peak memory", "snell", "released-snell", 8, "vit-l-16"): False,
        ("peak memory", "snell", "lora", 8, "vit-l-16"): True,
        ("saved bytes", "snell", "floor", 8, "vit-l-16"): True,
        ("transient", "snell", None, None, "768x768"): True,
        ("threshold time", "order_statistic", "torch.quantile", None, "768x3072"): True,
    }
    assert not any(v.caution for v in judge(result))


def test_a_measurement_without_kernels_says_so_beside_its_verdict(result):
    plain = dataclasses.replace(result, options={"device": "cpu", "snell_kernels": False})
    cautions = {(v.limit.quantity, v.limit.variant): v.caution for v in judge(plain)}
    assert cautions["step time", "snell"] == "no compiled kernels"
    assert cautions["step time", "snell-torch"] == cautions["peak memory", "snell"] == ""


def test_the_bars_are_those_of_issue_4():
    bars = {
        (x.quantity, x.variant, x.against, x.batch): x.most
        for x in LIMITS
        if x.source.startswith("issue 4") and not x.gpu
    }
    assert bars["step time", "snell-torch", "full", 8] == 1.20
    assert bars["step time", "snell", "full", 8] == bars["step time", "snell", "full", 32] == 1.05
    assert bars["step time", "snell", "released-snell", 8] == 0.55
    assert bars["step time", "snell", "released-snell", 32] == 0.62
    for batch in (8, 32):
        assert bars["peak memory", "snell", "released-snell", batch] == 0.69
        assert bars["peak memory", "snell", "lora", batch] == 0.70
    assert bars["transient", "snell", None, None] == 1.5
    assert bars["threshold time", "order_statistic", "torch.quantile", None] == 0.1
    assert [x.most for x in LIMITS if x.gpu and x.variant == "snell"] == [1.10]
    assert {x.variant for x in LIMITS} - set(VARIANTS) == {"order_statistic"}


def test_tables_compare_with_full_and_the_release(result):
    text = markdown(result)
    rows = [" ".join(line.strip("|").replace("|", " ").split()) for line in text.splitlines()]
    assert "variant median ms quartiles ms ÷ floor ÷ full ÷ LoRA ÷ released-snell" in rows
    assert text.count("**Step time, vit-b-16, batch") == 2
    assert "snell 1060 1060 – 1060 – 1.060 – 0.530" in rows
    assert "3 blocks 3 3" in rows
    assert "snell 768x768 1.000 1.500" in rows
    assert "order_statistic 768x3072 100 10.0 10 0" in rows
    assert "update snell 1 4.0 4.2" in rows
    assert text.count("**missed**") == 3


def test_a_result_of_snell_survives_a_round_trip(result, tmp_path):
    assert read_speed(write_speed(result, tmp_path / "speed.json")) == result


def test_a_figure_of_memory_against_depth(result):
    picture = depth_png(result.depth)
    assert picture.startswith(b"\x89PNG")
    assert picture == depth_png(list(result.depth))
    assert picture != depth_png(result.depth[:2])
    with pytest.raises(ValueError, match="--parts depth"):
        depth_png([])


def test_depths_are_few_and_end_with_the_whole_model():
    assert depths_of("vit-b-16", Options()) == list(range(1, 13))
    assert depths_of("vit-l-16", Options()) == list(range(2, 25, 2))
    assert depths_of("vit-h-14", Options())[-2:] == [30, 32]
    assert depths_of("vit-h-14", Options(depth=3)) == [1, 2, 3]


def tiny(**other) -> SnellOptions:
    return SnellOptions(
        model=("tiny-vit",), parts=("memory",), variants=FEW, depth=1, memory_batch=(2,), **other
    )


def test_an_interrupted_measurement_goes_on_where_it_stopped(tmp_path):
    saved: list[SpeedResult] = []
    whole = measure(tiny(), save=lambda r: saved.append(dataclasses.replace(r, memory=[*r.memory])))
    assert [len(r.memory) for r in saved] == [1, 2]
    assert whole.finished
    begun = read_speed(write_speed(saved[0], tmp_path / "begun.json"))
    assert continues(begun, tiny())
    assert not continues(begun, tiny(rounds=9))
    assert not continues(whole, tiny())
    more = measure(tiny(), done=begun)
    assert more.memory[0] == saved[0].memory[0]  # with the seconds that it took then
    assert [row.variant for row in more.memory] == list(FEW)
    assert more.created_at == whole.created_at
    assert more.total_time_s > begun.total_time_s


def test_the_command_goes_on_with_an_unfinished_file_and_begins_anew_with_a_finished_one(tmp_path):
    out = tmp_path / "quick.json"
    typed = ["--parts", "memory", "--variants", *FEW, "--model", "tiny-vit", "--depth", "1"]
    typed += ["--memory-batch", "2", "--out", str(out)]
    assert main(typed) == 0
    first = read_speed(out)
    kept = dataclasses.replace(first, memory=first.memory[:1], finished=False)
    write_speed(kept, out)
    assert main(["quick", *typed]) == 0
    second = read_speed(out)
    assert second.memory[0] == first.memory[0]
    assert second.finished
    assert main(typed) == 0
    assert read_speed(out).memory[0].seconds != first.memory[0].seconds


def test_a_page_is_filled_from_a_result(result, tmp_path, capsys):
    file, page = tmp_path / "layer.json", tmp_path / "page.md"
    write_speed(result, file)
    page.write_text("before\n<!-- begin layer -->\nold\n<!-- end layer -->\nafter\n")
    assert main(["layer", "--render", str(file), "--page", str(page)]) == 0
    text = page.read_text()
    assert markdown(result).strip() in text
    assert text.startswith("before\n<!-- begin layer -->\n\n")
    assert text.endswith("\n\n<!-- end layer -->\nafter\n")
    assert fill_page(text, "layer", markdown(result)) == text
    page.write_text("no place")
    assert main(["layer", "--render", str(file), "--page", str(page)]) == 2
    assert "<!-- begin layer -->" in capsys.readouterr().err


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_possible_and_every_part_is_in_one(name):
    _, options = PRESETS[name]
    check_options(options)
    assert set(options.variants) <= set(VARIANTS)
    assert count_steps(options) > 0
    assert options.out.stem == name
    assert set(PARTS) - {"optimizer"} == {
        part for _, other in PRESETS.values() for part in other.parts
    }


def test_help_lists_the_presets_without_torch():
    code = "import sys; from fewshot_bench.speed.snell import main\n"
    code += "try: main(['--help'])\nexcept SystemExit: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in PRESETS)
    assert done.stdout.endswith("False\n")
