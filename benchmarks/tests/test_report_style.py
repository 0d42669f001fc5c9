"""The figures: colours for every kind of colour vision, legends, and what is drawn."""

from itertools import combinations

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from fewshot_bench.drawing import _legend_rows, _panel, figure_png
from fewshot_bench.figures import FIGURES
from fewshot_bench.methods import METHODS
from fewshot_bench.results import RunResult
from fewshot_bench.statistics import summarise
from fewshot_bench.style import DARK, LIGHT, look
from fewshot_bench.style import METHODS as LOOKS

from .made_results import failed_result, made_result

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
VISION = {
    "usual": np.eye(3),
    "no long cones": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                      [-0.003882, -0.048116, 1.051998]],
    "no medium cones": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                        [-0.011820, 0.042940, 0.968881]],
    "no short cones": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                       [0.004733, 0.691367, 0.303900]],
}  # fmt: skip
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> np.ndarray:
    c = np.array(to_rgb(colour))
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    t = XYZ @ np.clip(rgb, 0, 1) / [0.9505, 1, 1.089]
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", VISION)
def test_colours_of_methods_keep_apart(vision: str):
    seen = {name: lab(VISION[vision] @ linear(colour)) for name, (colour, _) in LOOKS.items()}
    nearest = min(
        (np.linalg.norm(seen[a] - seen[b]), f"{a} and {b}") for a, b in combinations(seen, 2)
    )
    assert nearest[0] > 15, nearest  # 2.3 is a just noticeable difference


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_stand_out_from_the_ground(theme):
    ground = (XYZ @ linear(theme.ground))[1]
    for name, (colour, _) in LOOKS.items():
        low, high = sorted([ground, (XYZ @ linear(colour))[1]])
        assert (high + 0.05) / (low + 0.05) > 2, name


def test_every_method_of_the_registry_has_a_look_of_its_own():
    assert set(LOOKS) == set(METHODS)
    assert len({marker for _, marker in LOOKS.values()}) == len(LOOKS)


def test_variants_of_a_method_differ_in_their_line_and_the_control_is_dotted():
    runs = [made_result(lr=rate) for rate in (1e-3, 1e-2)] + [made_result(checkpoint="random")]
    (block,) = summarise(runs)
    looks = {row.label: look(row, block.rows) for row in block.rows}
    assert len({drawn.line for drawn in looks.values()}) == 3
    assert looks["so (random)"].line == ":"
    assert len({drawn.colour for drawn in looks.values()}) == 1


def legend(kind: str, *runs: RunResult) -> list[str]:
    return [label for label, _, _ in _legend_rows(FIGURES[kind], summarise(runs))]


def test_the_legend_names_a_method_once_and_the_control_once():
    runs = [made_result(backbone=b, checkpoint=w) for b in ("a", "b") for w in (None, "random")] + [
        made_result(backbone="a", method="lora")
    ]
    assert legend("accuracy_shots", *runs) == ["lora", "so", "random weights"]


def test_the_legend_names_a_control_that_stands_alone():
    assert legend("accuracy_shots", made_result(checkpoint="random")) == ["so (random)"]


def test_bars_carry_their_names_themselves():
    assert legend("step_time", made_result()) == []


@pytest.mark.parametrize("kind", FIGURES)
def test_a_panel_with_nothing_to_draw_says_so(kind: str):
    (block,) = summarise([failed_result()])
    axes = Figure().subplots()
    _panel(axes, FIGURES[kind], block)
    assert "nothing was measured" in [text.get_text() for text in axes.texts]


def test_what_a_panel_draws_is_what_was_measured():
    runs = [made_result(80 + k, shots=k) for k in (1, 4)]
    (block,) = summarise(runs)
    axes = Figure().subplots()
    FIGURES["accuracy_shots"].draw(axes, block)
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [81, 84])
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [1, 4])
    axes = Figure().subplots()
    FIGURES["step_time"].draw(axes, block)
    assert axes.patches[0].get_width() == pytest.approx(10)  # milliseconds
    axes = Figure().subplots()
    FIGURES["accuracy_memory"].draw(axes, block)
    assert axes.lines[0].get_xydata().tolist() == [[2.0, 84.0]]


def test_drawing_leaves_the_settings_of_matplotlib_alone():
    before = dict(matplotlib.rcParams)
    figure_png(FIGURES["step_time"], summarise([made_result()]))
    assert dict(matplotlib.rcParams) == before
