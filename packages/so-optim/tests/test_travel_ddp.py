"""DDP for real: two processes, gloo, `torchrun`. The workers are travel_ddp_worker.py."""

import importlib.util
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

HERE = Path(__file__).parent
TINY = SimpleNamespace(**runpy.run_path(str(HERE / "travel_model.py")))
LAUNCH = SimpleNamespace(**runpy.run_path(str(HERE / "travel_launch.py")))
STEPS, WORLD, FP32 = 12, 2, 4

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """The folder with what each rank ended with, and what it reports."""
    folder = tmp_path_factory.mktemp("ddp")
    return folder, LAUNCH.launch("travel_ddp_worker.py", folder)


def ended(folder, dtype, rank):
    return torch.load(folder / f"{dtype}-{rank}.pt", weights_only=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_replicas_stay_bit_identical(ranks, dtype):
    first, second = (ended(ranks[0], dtype, rank) for rank in range(WORLD))
    states = (each["optimizer"].pop("state") for each in (first, second))
    torch.testing.assert_close(*states, rtol=0, atol=0)
    torch.testing.assert_close(first["model"], second["model"], rtol=0, atol=0)
    assert first["optimizer"] == second["optimizer"]


def head_bytes():
    return FP32 * sum(p.numel() for p in TINY.build().head.parameters())


def test_a_step_sends_the_k_values_and_the_dense_group(ranks):
    for report in ranks[1]:
        sampled = report["float32"]
        assert sampled["sent"] == [FP32 * sampled["k"] + head_bytes()] * STEPS
        assert report["collectives"].count("gloo:all_reduce") == 1
        others = set(report["collectives"]) - {"gloo:all_reduce"}
        assert others <= {"gloo:broadcast"}  # of the model's own buffer


def test_positions_are_no_buffers(ranks):
    assert all(report["float32"]["same_buffers"] for report in ranks[1])


def test_full_fine_tuning_sends_every_entry(ranks):
    n = sum(weight.numel() for weight in TINY.matrices(TINY.build()))
    for report in ranks[1]:
        assert report["full"] == [FP32 * n + head_bytes()] * STEPS
        so = report["float32"]["sent"][0] - head_bytes()
        assert so <= 0.01 * (report["full"][0] - head_bytes())


@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="PEFT is not installed")
def test_lora_sends_its_factors(ranks):
    factors = 8 * sum(sum(weight.shape) for weight in TINY.matrices(TINY.build()))
    for report in ranks[1]:
        assert report["lora"] == [FP32 * factors + head_bytes()] * STEPS
        assert report["float32"]["sent"][0] - head_bytes() < (FP32 * factors) / 30


def test_the_trajectory_is_that_of_one_process_with_the_whole_batch(ranks):
    model = TINY.build(torch.float64)
    optimizer = TINY.optimizer_of(model)
    optimizer.sample_gradients(model)
    for step in range(STEPS):
        TINY.loss_of(model, *TINY.batch(step)).backward()
        optimizer.step()
        optimizer.zero_grad()
    theirs = ended(ranks[0], "float64", 0)["model"]
    torch.testing.assert_close(model.state_dict(), theirs, rtol=1e-12, atol=1e-12)
    start = TINY.build(torch.float64)
    for weight, old in zip(TINY.matrices(model), TINY.matrices(start), strict=True):
        assert (weight != old).any()


def test_wrapping_first_is_refused(ranks):
    for report in ranks[1]:
        wrapper, module = report["refused"]
        assert "model is wrapped in DistributedDataParallel" in wrapper
        assert "sample the gradients of the plain model first" in wrapper
        assert "finished reduction in the prior iteration" in module  # DDP's own words
