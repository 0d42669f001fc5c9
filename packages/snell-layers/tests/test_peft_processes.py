"""Two real processes: DDP replicas and FSDP2 shards train the model that one process trains."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("peft")

WORKER = Path(__file__).with_name("peft_processes_worker.py")

pytestmark = pytest.mark.slow


def load_worker():
    spec = importlib.util.spec_from_file_location("peft_processes_worker", WORKER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


worker = load_worker()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What both processes saved."""
    folder = tmp_path_factory.mktemp("ranks")
    launcher = ["-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [sys.executable, *launcher, f"--nproc-per-node={worker.WORLD}", str(WORKER), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(worker.WORLD)]


def alone(allocate=False):
    """The state after the same steps on the joint batch, in this process."""
    model = worker.build()
    worker.train(model, allocator=worker.allocator_of(model) if allocate else None)
    return model.state_dict()


def close(state, expected):
    """Parameters, thresholds and quotas are equal up to the order of a float64 sum."""
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(state[name], value, rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("kind", ["replica", "allocated"])
def test_replicas_are_equal_bit_for_bit_and_train_the_joint_batch(ranks, kind):
    one, two = (rank[kind] for rank in ranks)
    assert any(name.endswith(".threshold") for name in one)
    assert all(torch.equal(one[name], two[name]) for name in one)
    close(one, alone(allocate=kind == "allocated"))


def test_the_allocator_moved_the_same_quotas_in_every_process(ranks):
    start = worker.build().state_dict()
    quotas = {name: int(v) for name, v in ranks[0]["allocated"].items() if name.endswith(".kept")}
    assert any(count != int(start[name]) for name, count in quotas.items())
    assert len(quotas) == 4


@pytest.mark.parametrize("each_layer", [False, True])
def test_shards_train_the_joint_batch(ranks, each_layer):
    for rank in ranks:
        close(rank[f"sharded {each_layer}"], alone())


def test_merging_shards_is_refused(ranks):
    for rank in ranks:
        for each_layer in (False, True):
            assert "spread over processes cannot be merged" in rank[f"merge {each_layer}"]
