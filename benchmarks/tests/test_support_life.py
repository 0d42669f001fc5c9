"""The picture of a support's life: what is recorded, how it is sorted into rows, the files."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from fewshot_bench import support_picture as picture
from fewshot_bench.config import SOConfig
from fewshot_bench.pipeline import train
from fewshot_bench.support_life import Life, main, watch

MATRIX = "model.blocks.1.attn.proj.weight"
T, STEPS = 3, 11


@pytest.fixture
def life(configure) -> Life:
    so = SOConfig(density_ratio=1e-3, T=T, memory="dense")
    return watch(configure("so", so=so, steps=STEPS), MATRIX)


def test_what_is_recorded_is_so(life):
    assert (life.n, life.k, len(life.loss)) == (96 * 96, 9, STEPS)
    assert life.redraws() == [3, 6, 9]
    for t, union in enumerate(life.unions()):
        support, kept, moved = life.support[t], life.kept[t], life.moved[t]
        assert support == life.support[t // T * T] == sorted(set(support))
        assert support != life.support[t - T] or t < T
        assert len(support) == len(kept) == life.k <= len(union) <= 2 * life.k
        assert set(kept) | set(moved) <= union
        # A new head is zero: the first step has no gradient in the blocks.
        assert set(moved) == (union if t else set())


def test_what_is_watched_is_what_would_be_trained_anyway(configure, life):
    so = SOConfig(density_ratio=1e-3, T=T, memory="dense")
    assert train(configure("so", so=so, steps=STEPS)).log.loss == life.loss


def test_numbers_of_a_made_up_life():
    supports = [[1, 2], [1, 2], [3, 4], [3, 4], [2, 9]]
    kept = [[1, 2], [1, 2], [1, 3], [3, 4], [3, 9]]
    life = Life("w", 20, 2, 2, 0, supports, kept, draws=[1, 1, 2, 2, 3])
    assert life.redraws() == [2, 4]
    assert life.unions() == [{1, 2}, {1, 2}, {1, 2, 3, 4}, {1, 3, 4}, {2, 3, 4, 9}]
    assert life.shares() == [1, 1, 0.5, 1, 0.5]
    assert life.touched() == [2, 2, 4, 4, 5]
    assert [life.survival(w) for w in range(4)] == [[1, 1, 0.5], [0, 0.5], [0], []]
    none, both, support, coast, gone = range(5)
    assert picture.raster(life).tolist() == [
        [both, both, coast, gone, support],  # 2
        [both, both, coast, coast, gone],  # 1
        [none, none, both, both, coast],  # 3
        [none, none, support, both, coast],  # 4
        [none, none, none, none, both],  # 9
    ]


def test_columns_of_the_raster_add_up(life):
    cells, unions = picture.raster(life), life.unions()
    assert len(cells) == life.touched()[-1]
    moving = np.isin(cells, (picture.KEPT, picture.ONLY_SUPPORT, picture.ONLY_KEPT)).sum(0)
    assert moving.tolist() == [len(union) for union in unions]
    assert (np.isin(cells, (picture.KEPT, picture.ONLY_SUPPORT)).sum(0) == life.k).all()
    assert (cells == picture.KEPT).sum(0).tolist() == [round(life.k * s) for s in life.shares()]
    arrival = (cells > 0).argmax(1)
    assert (np.diff(arrival) >= 0).all()
    assert set(arrival.tolist()) == {0, *life.redraws()}


def test_the_same_life_gives_the_same_picture(life):
    first = picture.life_png(life)
    assert first == picture.life_png(life)
    changed = dataclasses.replace(life, kept=[*life.kept[:-1], life.kept[0]])
    assert first != picture.life_png(changed)
    assert Image.open(io.BytesIO(first)).size == (1600, 1520)


def test_a_run_must_be_one_that_can_be_watched(configure):
    with pytest.raises(ValueError, match=r"so\.memory 'dense'"):
        watch(configure("so"), MATRIX)
    with pytest.raises(ValueError, match="method 'so'"):
        watch(configure("full", so=SOConfig(memory="dense")), MATRIX)


def test_the_command_writes_both_files_or_leaves_the_old(tmp_path, capsys, full_disk):
    out, data = tmp_path / "new" / "life.png", tmp_path / "life.json"
    short = ["--steps", "5", "--T", "2", "--matrix", MATRIX, "--density", "2e-3"]
    assert main([*short, "--out", str(out), "--data", str(data)]) == 0
    assert f"{MATRIX}: k = 18 of n = 9216 entries, seed 0" in capsys.readouterr().out
    with Image.open(out) as image:
        image.verify()
    table = json.loads(data.read_text())
    assert table["redraws"] == [2, 4]
    assert table["touched"][-1] == len({p for step in table["support"] for p in step})
    assert table["moved_per_k"][:3] == [1, 1, 2]
    assert str(tmp_path) not in data.read_text()

    before = out.read_bytes()
    with full_disk(1000):
        assert main([*short, "--out", str(out)]) == 2
    assert "cannot write" in capsys.readouterr().err
    assert out.read_bytes() == before
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--steps", "0"], "--steps must be at least 1, got 0"),
        (["--T", "0"], "--T must be at least 1, got 0"),
        (["--seed", "-1"], "--seed must be at least 0, got -1"),
        (["--density", "1.5"], "--density must be in (0, 1], got 1.5"),
        (["--matrix", MATRIX.replace("proj", "prj")], f"did you mean '{MATRIX}'"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(typed, said, tmp_path, capsys):
    assert main([*typed, "--out", str(tmp_path / "life.png")]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_help_answers_without_torch():
    code = "import sys; from fewshot_bench.support_life import main\n"
    code += "try: main(['--help'])\nexcept SystemExit: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--density" in done.stdout
    assert done.stdout.endswith("False\n")
