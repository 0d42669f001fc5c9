import gc

import pytest
import torch
from torch import nn

from fewshot_bench.memory import tensors_in, watch_peak
from fewshot_bench.metrics import gradient_bytes, state_bytes
from fewshot_bench.tuned import Tuned


def peak_of(function, tuned=None, batch=None):
    with watch_peak(tuned or Tuned(nn.Identity()), batch or {}, "cpu") as peak:
        function()
    return peak.bytes


def test_only_what_is_alive_together_counts():
    def one_after_the_other():
        a = torch.zeros(1000)
        del a
        b = torch.zeros(500)
        c = torch.zeros(400)
        return b, c

    assert peak_of(one_after_the_other) == 4 * 1000


def test_views_and_inplace_operations_cost_nothing():
    assert peak_of(lambda: torch.zeros(100).view(10, 10).t().add_(1)[2:]) == 400


def test_what_autograd_saves_counts_until_backward():
    x = torch.randn(100, requires_grad=True)

    def forward_and_backward():
        y = x.exp()
        z = y.sin()
        del y  # still saved for both backwards
        z.sum().backward()

    forward = 400 + 400 + 400 + 4  # x, y, z and the loss
    assert peak_of(lambda: x.exp().sin().sum()) == forward
    assert peak_of(forward_and_backward) == forward + 4 + 400 + 400  # loss gradient, cos y, product


def test_parameters_buffers_gradients_state_and_batch_count_from_the_start():
    model = nn.BatchNorm1d(10)  # 20 parameters, 20 running values, a counter of 8 bytes
    optimizer = torch.optim.AdamW(model.parameters())
    batch = {"image": torch.randn(5, 10)}
    assert peak_of(lambda: None, Tuned(model, optimizer), batch) == 80 + 80 + 8 + 200
    model(batch["image"]).sum().backward()
    optimizer.step()
    tuned = Tuned(model, optimizer)
    assert (gradient_bytes(tuned), state_bytes(tuned)) == (80, 2 * (40 + 40 + 4))
    assert peak_of(lambda: None, tuned, batch) == 368 + 80 + 168


def test_a_shared_storage_counts_once():
    shared = nn.Linear(10, 10, bias=False)
    other = nn.Linear(10, 10, bias=False)
    other.weight = nn.Parameter(shared.weight.detach())
    assert peak_of(lambda: None, Tuned(nn.ModuleList([shared, other]))) == 400


def test_watching_ends_with_the_block_and_restores_the_collector():
    def fail():
        assert not gc.isenabled()
        raise RuntimeError("inside")

    assert gc.isenabled()
    with pytest.raises(RuntimeError, match="inside"):
        peak_of(fail)
    assert gc.isenabled()


def test_tensors_are_found_however_nested():
    a, b, c = torch.zeros(1), torch.ones(1), torch.ones(2)
    assert [id(t) for t in tensors_in({"x": [a, {"y": (b, 3)}], "z": c, "n": None})] == [
        id(a), id(b), id(c),
    ]  # fmt: skip
