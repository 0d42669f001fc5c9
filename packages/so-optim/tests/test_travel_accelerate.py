"""accelerate: prepare, accumulate, clip, save and load, around a sampled model."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from so_optim import SO

accelerate = pytest.importorskip("accelerate")

STEPS, PARTS, MAX_NORM = 6, 2, 0.05


def build():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 32), nn.Linear(32, 3))
    optimizer = SO(model.parameters(), lr=1e-2, density_ratio=0.05, T=2)
    optimizer.sample_gradients(model)
    return model, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: 1 / (1 + s))


def batches():
    rng = torch.Generator().manual_seed(0)
    draw = {"generator": rng}
    return [
        (torch.randn(4, 8, **draw), torch.randint(3, (4,), **draw)) for _ in range(STEPS * PARTS)
    ]


def prepared():
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=PARTS)
    return accelerator, *accelerator.prepare(*build())


def go_on(accelerator, model, optimizer, schedule, batches):
    for x, y in batches:
        with accelerator.accumulate(model):
            accelerator.backward(F.cross_entropy(model(x), y))
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), MAX_NORM)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()


def by_hand():
    model, optimizer, schedule = build()
    for number, (x, y) in enumerate(batches()):
        (F.cross_entropy(model(x), y) / PARTS).backward()
        if number % PARTS == PARTS - 1:
            nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    return model.state_dict()


def assert_equal(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_it_is_the_loop_by_hand():
    accelerator, model, optimizer, schedule = prepared()
    go_on(accelerator, model, optimizer, schedule, batches())
    assert_equal(accelerator.unwrap_model(model).state_dict(), by_hand())


def test_a_saved_state_goes_on_bit_for_bit(tmp_path):
    """Sampled weights share memory; what is saved holds each of them all the same."""
    first = prepared()
    half = len(batches()) // 2
    go_on(*first, batches()[:half])
    first[0].save_state(str(tmp_path))
    second = prepared()
    second[0].load_state(str(tmp_path))
    for run in (first, second):
        go_on(*run, batches()[half:])
    assert_equal(second[1].state_dict(), first[1].state_dict())
    assert_equal(second[1].state_dict(), by_hand())


def test_a_saved_model_is_whole(tmp_path):
    load_file = pytest.importorskip("safetensors.torch").load_file
    accelerator, model, _, _ = prepared()
    accelerator.save_model(model, str(tmp_path))
    assert_equal(load_file(tmp_path / "model.safetensors"), dict(model.state_dict()))
