"""The benchmark of reading images: it reads what it says, and its table shows the numbers."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from fewshot_bench.environment import describe
from fewshot_bench.results import StepTime
from fewshot_bench.speed.decoding import main
from fewshot_bench.speed.decoding_table import decoding_tables
from fewshot_bench.speed.image_readers import READERS, STREAMING, THEIRS, Reading, check_pixels
from fewshot_bench.speed.photographs import make_photographs
from fewshot_bench.speed.record import DecodingRow, SpeedResult, read_speed
from fewshot_bench.speed.table import markdown

ARGUMENTS = [
    *("--classes", "2", "--each", "3", "--width", "60", "--height", "40"),
    *("--batch", "4", "--workers", "0", "--passes", "2", "--rounds", "1"),
]


@pytest.fixture
def root(tmp_path):
    return make_photographs(tmp_path / "photos", 2, 3, 60, 40)


def test_a_photograph_takes_about_as_many_bytes_as_one(tmp_path):
    make_photographs(tmp_path, 1, 1, 500, 375)
    (file,) = (tmp_path / "test").rglob("*.jpg")
    assert 40_000 < file.stat().st_size < 120_000


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_reader_reads_every_image_in_every_pass(root, name, split):
    batches = list(READERS[name](Reading(root, split, 6, 2, 4, 0, 2)))
    assert [len(batch) for batch in batches] == [4, 2, 4, 2]
    assert all(batch.shape[1:] == (3, 224, 224) for batch in batches)


def test_readers_that_give_other_pixels_are_not_compared(root):
    reading = Reading(root, "test", 6, 2, 4, 0, 1)
    check_pixels(reading)
    deep = np.arange(2400, dtype=np.uint16).reshape(40, 60) * 27
    for file in (root / "test").rglob("0.jpg"):
        Image.fromarray(deep).save(file, format="PNG")  # Pillow turns 16 bits into white
    with pytest.raises(ValueError, match="different pixels"):
        check_pixels(reading)


def test_the_command_writes_a_result_and_fills_a_page(tmp_path, capsys):
    out, page = tmp_path / "decoding.json", tmp_path / "page.md"
    page.write_text("# Speed\n\n<!-- begin decoding -->\n<!-- end decoding -->\n")
    assert main([*ARGUMENTS, "--out", str(out)]) == 0
    result = read_speed(out)
    assert result.meta_info.packages["pillow"] in capsys.readouterr().out
    assert main(["--render", str(out), "--page", str(page)]) == 0
    assert markdown(result).strip() in page.read_text()
    assert "torchvision" in markdown(result).splitlines()[0]
    found = [(row.split, row.passes, row.variant) for row in result.decoding]
    kept = [name for name in READERS if name != STREAMING]
    wanted = [("test", 1, name) for name in READERS] + [("test", 2, name) for name in kept]
    assert found == wanted + [("train", 2, name) for name in READERS]
    for row in result.decoding:
        assert (row.images, len(row.wall), len(row.processor)) == (6, 1, 1)
        assert 0 < (row.wall_s.median or 0) < 10
    assert "page" not in json.loads(out.read_text())["options"]


def test_the_table_sets_readers_beside_imagefolder():
    times = StepTime(0.004, 0.003, 0.005, 1, 2), StepTime(0.006, 0.006, 0.006, 1, 2)
    facts = 0, 1, 6, 4
    theirs = DecodingRow("clip", "test", THEIRS, *facts, *times, [0.006] * 2, [0.004] * 2)
    half = [dataclasses.replace(time, median=time.median / 2) for time in times]
    ours = dataclasses.replace(theirs, variant="ours", wall_s=half[0], processor_s=half[1])
    result = SpeedResult("now", 1.0, {"width": 60, "height": 40}, True, describe("cpu", 1))
    (table,) = decoding_tables(dataclasses.replace(result, decoding=[theirs, ours]))
    assert "Test images, harness clip, 60x40, no workers, 1 pass, 2 rounds" in table
    (row,) = (line for line in table.splitlines() if line.startswith("| ours"))
    cells = [cell.strip() for cell in row.strip("| ").split("|")]
    assert cells == ["ours", "3", "6 – 6", "0.500", "2", "0.500"]


def test_what_cannot_be_done_is_one_line_on_stderr(tmp_path, capsys):
    assert main(["--render", str(tmp_path / "none.json")]) == 2
    assert "none.json" in capsys.readouterr().err
