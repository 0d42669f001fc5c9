from __future__ import annotations

import time

import pytest
import torch

from fewshot_bench.speed.counting import count_operations
from fewshot_bench.speed.optimizer_alone import measure_optimizer
from fewshot_bench.speed.timing import Setting, in_turns, prepare, seconds_of, summary
from fewshot_bench.speed.variants import Choice, choices


def recorded(keep: bool, rounds: int) -> tuple[list[str], dict[str, list[float]]]:
    """What in_turns builds and calls, and a clock that counts the calls so far."""
    log: list[str] = []

    def make(name):
        log.append(f"build {name}")
        return lambda: log.append(name)

    def clock(step):
        step()
        log.append("timed")
        return float(log.count("timed"))

    steps = {name: (lambda name=name: make(name)) for name in "ABC"}
    return log, in_turns(steps, rounds, clock, keep=keep)


def test_variants_take_turns_and_two_rounds_do_not_count():
    log, seconds = recorded(keep=True, rounds=2)
    built, called = log[:3], [entry for entry in log[3:] if entry != "timed"]
    assert built == ["build A", "build B", "build C"]
    assert called == ["A", "B", "C"] * 4
    assert seconds == {"A": [7.0, 10.0], "B": [8.0, 11.0], "C": [9.0, 12.0]}


def test_models_that_do_not_fit_are_built_afresh_and_warmed_up_in_every_turn():
    log, seconds = recorded(keep=False, rounds=2)
    one_round = [entry for name in "ABC" for entry in (f"build {name}", name, name, name, "timed")]
    assert log == one_round * 2
    assert seconds == {"A": [1.0, 4.0], "B": [2.0, 5.0], "C": [3.0, 6.0]}


def test_the_clock_counts_work_and_not_waiting():
    clock = seconds_of("cpu")
    assert clock(lambda: time.sleep(0.2)) < 0.1

    def work():
        until = time.process_time() + 0.05
        while time.process_time() < until:
            pass

    assert clock(work) >= 0.05


def test_quartiles_are_those_of_the_rounds():
    found = summary([5.0, 1.0, 2.0, 4.0, 3.0])
    assert (found.q25, found.median, found.q75, found.measured_steps) == (2.0, 3.0, 4.0, 5)
    assert summary([2.0]).q25 == 2.0


@pytest.mark.parametrize("variant", ["floor", "full", "lora", "strong-lora"])
def test_a_prepared_step_trains_what_it_should(variant):
    step = prepare(Setting("tiny-vit", 2, 1), Choice(variant))
    assert seconds_of("cpu")(step) > 0


def test_views_are_not_counted_and_masks_wait():
    x, mask = torch.ones(4, 4), torch.eye(4, dtype=torch.bool)
    counted = count_operations(lambda: x.view(2, 8).t().add(1))
    assert (counted.launched, counted.waits) == (1, 0)
    assert count_operations(lambda: x[mask]).waits == 1
    assert count_operations(lambda: x[torch.tensor([0, 1])]).waits == 0
    assert count_operations(lambda: bool(x.sum() > 0)).waits == 1


def test_an_optimizer_alone_is_measured_over_whole_lives_of_a_support():
    found = measure_optimizer(Choice("so-dense", 0.01), ((40, 30), (30, 20)))
    assert found.entries == 12 + 6
    assert (found.step.measured_steps, found.redraw.measured_steps) == (17, 2)
    assert found.operations > 0
    assert 8 <= found.bytes_per_entry < 100  # two moments at least, and nothing n long


def test_densities_are_for_those_who_have_one():
    labels = [choice.label for choice in choices(("so-free", "floor"), (5e-5, 1e-3))]
    assert labels == ["so-free 5e-05", "so-free 0.001", "floor"]
    with pytest.raises(ValueError, match="did you mean 'so-dense'"):
        choices(("so-denze",), (1e-3,))
