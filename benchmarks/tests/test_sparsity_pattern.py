"""The picture of a sparsity pattern: from an allocator, from a training, from a saved adapter."""

import io
import subprocess
import sys

import pytest
from PIL import Image
from torch import nn

from fewshot_bench.config import SnellOptions
from fewshot_bench.pattern_picture import Place, pattern_png, place_of
from fewshot_bench.pipeline import run, train
from fewshot_bench.sparsity_pattern import main, pattern_of_adapter, watch
from snell_layers import SnellLinear, SparsityAllocator

SNELLA = SnellOptions(kernel="mixed", sparsity=0.8)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("model.blocks.11.attn.qkv", Place("model.blocks", 11, "attn.qkv")),
        ("bert.encoder.layer.0.output.dense", Place("bert.encoder.layer", 0, "output.dense")),
        ("3", Place("", 3, "weight")),
        ("patch_embed", Place("", 0, "patch_embed")),
    ],
)
def test_a_name_says_where_a_layer_stands(name, place):
    assert place_of(name) == place


def test_every_allocation_is_recorded_and_the_training_is_the_usual_one(configure):
    history = watch(configure("snell", snell=SNELLA, steps=10))
    assert [done for done, _ in history] == list(range(10))
    competing = SnellOptions(kernel="mixed", sparsity=0.8, budget="allocated")
    layers = train(configure("snell", snell=competing, steps=10)).tuned.model.modules()
    shares = [m.rule.sparsity for m in layers if hasattr(m, "rule") and hasattr(m, "kept")]
    assert shares == list(history[-1][1].values())


def test_a_saved_adapter_tells_the_pattern_it_was_trained_with(configure, tmp_path):
    competing = SnellOptions(kernel="mixed", sparsity=0.8, budget="allocated")
    run(configure("snell", snell=competing, steps=10), save=tmp_path / "saved")
    _, pattern = watch(configure("snell", snell=SNELLA, steps=10))[-1]
    assert pattern_of_adapter(tmp_path / "saved") == pytest.approx(pattern, abs=1e-12)


def test_the_picture_is_of_the_pattern_and_repeats():
    model = nn.Sequential(*[SnellLinear(nn.Linear(8, 8), 4) for _ in range(3)])
    allocator = SparsityAllocator(model, final_sparsity=0.75, total=4)
    first, second = allocator.allocate(0), allocator.allocate(2)
    assert pattern_png(first) == pattern_png(first) != pattern_png(second)
    plain, moving = (
        Image.open(io.BytesIO(pattern_png(second, history))) for history in ([], [(0, first)])
    )
    assert moving.width > plain.width
    two = {"visual.blocks.0.fc1": 0.5, "text.blocks.0.fc1": 0.7, "text.blocks.1.fc2": 1.0}
    assert Image.open(io.BytesIO(pattern_png(two))).width > plain.width
    with pytest.raises(ValueError, match="pattern is empty"):
        pattern_png({})


def test_the_command_trains_and_draws(tmp_path, capsys):
    out = tmp_path / "new" / "pattern.png"
    assert main(["--steps", "3", "--dataset", "digits", "--out", str(out)]) == 0
    assert "model.blocks.2.mlp.fc2: " in capsys.readouterr().out
    with Image.open(out) as image:
        image.verify()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--steps", "0"], "--steps must be at least 1, got 0"),
        (["--sparsity", "1"], "snell.sparsity must be in [0, 1), got 1.0"),
        (["--adapter", "nowhere"], "no adapter_model.safetensors in nowhere"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(typed, said, tmp_path, capsys):
    assert main([*typed, "--out", str(tmp_path / "pattern.png")]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_an_adapter_of_another_method_is_refused(configure, tmp_path):
    run(configure("lora"), save=tmp_path / "saved")
    with pytest.raises(ValueError, match="has no SNELL layer"):
        pattern_of_adapter(tmp_path / "saved")


def test_help_answers_without_torch():
    code = "import sys; from fewshot_bench.sparsity_pattern import main\n"
    code += "try: main(['--help'])\nexcept SystemExit: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--sparsity" in done.stdout
    assert done.stdout.endswith("False\n")
