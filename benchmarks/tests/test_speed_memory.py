from __future__ import annotations

import resource

import pytest

from fewshot_bench.memory import watch_peak
from fewshot_bench.speed import layers
from fewshot_bench.speed.compiled import NOTE, measure_compiled
from fewshot_bench.speed.layers import bare_layers, step_bytes
from fewshot_bench.speed.simulate import measure_memory
from fewshot_bench.speed.variants import VARIANTS, Choice, train_step
from fewshot_bench.speed.workload import make_batch, make_workload
from fewshot_bench.tuned import Tuned

STOCK = ("floor", "full", "lora", "strong-lora")


def watched_peak(model: str, choice: Choice, batch: int) -> int:
    """The peak of a third real step, by the instrument of the harness."""
    variant = VARIANTS[choice.variant]
    workload = make_workload(model, 2, split=variant.split)
    shaped, examples = variant.shape(workload, choice), make_batch(workload, batch)
    tuned = Tuned(shaped, variant.optimizer(workload, shaped, choice))
    for _ in range(2):
        train_step(tuned, examples)
    with watch_peak(tuned, examples, "cpu") as peak:
        train_step(tuned, examples)
    return peak.bytes


@pytest.mark.parametrize("model", ["tiny-vit", "tiny-clip", "tiny-bert"])
@pytest.mark.parametrize("variant", STOCK)
def test_simulation_equals_a_real_step_to_the_byte(model, variant):
    choice = Choice(variant)
    simulated = measure_memory(model, choice, 5, 2)
    real = measure_memory(model, choice, 5, 2, real=True)
    assert (simulated.peak_bytes, simulated.standing_bytes) == (
        real.peak_bytes, real.standing_bytes,
    )  # fmt: skip
    assert simulated.saved == real.saved
    assert (simulated.flops, simulated.operations) == (real.flops, real.operations)
    assert simulated.note == ""
    assert simulated.peak_bytes == watched_peak(model, choice, 5)


@pytest.mark.parametrize("density", [1e-3, 0.02])
@pytest.mark.parametrize("variant", ["so-dense", "so-free", "so-low", "so-minimal"])
def test_simulation_of_so_equals_a_real_step(variant, density):
    choice = Choice(variant, density)
    simulated = measure_memory("tiny-vit", choice, 5, 2)
    real = measure_memory("tiny-vit", choice, 5, 2, real=True)
    assert "not simulated" in simulated.note
    assert simulated.saved == real.saved
    assert simulated.flops == real.flops
    assert (simulated.peak_bytes, simulated.standing_bytes) == (
        real.peak_bytes, real.standing_bytes,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("variant", "units"), [("floor", 10), ("full", 16), ("lora", 16), ("strong-lora", 10)]
)
def test_units_of_vit_b_are_those_of_the_research_note(variant, units):
    found = measure_memory("vit-b-16", Choice(variant), 4, 2).saved.units
    # Log-sum-exp and LoRA's inner activations come on top; the first block of a model that trains
    # matrices alone keeps one unit less, as its first LayerNorm needs no gradient.
    less = 0.5 if variant in ("full", "lora") else 0.0
    assert units - less <= found <= units - less + 0.07


def test_the_first_block_is_what_is_missing_in_a_short_model():
    two, four = (measure_memory("vit-b-16", Choice("full"), 2, n).saved.units for n in (2, 4))
    assert 16.0 - two == pytest.approx(2 * (16.0 - four), abs=0.05)


@pytest.mark.parametrize("at_once", [True, False])
def test_what_an_optimizer_keeps_is_weighed(monkeypatch, at_once):
    if not at_once:
        monkeypatch.setattr(layers, "AT_ONCE", 0)
    weights = list(bare_layers([(4, 3), (4, 3), (2, 5)]).matrices().values())
    entries = sum(weight.numel() for weight in weights)
    found = step_bytes(weights, Choice("full"))
    assert found.kept == 2 * 4 * entries + 4 * len(weights)
    assert found.passing >= 4 * 12  # the denominators of one shape at least


def test_a_simulation_needs_no_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = measure_memory("vit-h-14", Choice("floor"), 512, 1)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KiB
    assert found.peak_bytes > 8 << 30
    assert grown < 1 << 20


@pytest.mark.slow
def test_compiling_under_a_budget_saves_less_and_says_what_was_measured():
    stock = measure_memory("vit-b-16", Choice("lora"), 4, 2)
    most = measure_compiled("vit-b-16", Choice("lora-compiled"), 4, 2)
    half = measure_compiled("vit-b-16", Choice("lora-compiled-half"), 4, 2)
    assert half.saved.units < most.saved.units < stock.saved.units - 4
    assert most.standing_bytes < most.peak_bytes < stock.peak_bytes
    assert most.note == NOTE
