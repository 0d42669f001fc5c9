import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fewshot_bench.fit import FitLog, NonFiniteLoss, fit
from fewshot_bench.metrics import Metrics, NonFiniteLogits, evaluate
from fewshot_bench.results import StepTime
from fewshot_bench.tuned import Tuned
from so_optim import SO


class Linear(nn.Linear):
    def forward(self, batch):
        return super().forward(batch["image"])


def batches(seed=0):
    draw = torch.Generator().manual_seed(seed)
    while True:
        image = torch.randn(8, 4, generator=draw)
        yield {"image": image, "label": (image[:, 0] > 0).long()}


def linear(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Linear(4, 2)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_loop_is_the_textbook_loop_bit_for_bit(schedule):
    ours, theirs, steps = linear(), linear(), 7
    log = fit(
        Tuned(ours, torch.optim.AdamW(ours.parameters(), lr=0.1)),
        batches(),
        steps=steps,
        schedule=schedule,
    )
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=0.1)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    losses = []
    for _, batch in zip(range(steps), batches(), strict=False):
        optimizer.zero_grad()
        loss = cross_entropy(theirs(batch), batch["label"])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if schedule == "cosine":
            cosine.step()
    if schedule == "constant":
        assert log.loss == losses
        assert torch.equal(ours.weight, theirs.weight)
    else:  # torch computes its cosine recursively
        torch.testing.assert_close(log.loss, losses)
        torch.testing.assert_close(ours.weight, theirs.weight)


def test_every_group_follows_the_schedule_from_its_own_rate():
    model = linear()
    groups = [
        {"params": [model.weight], "lr": 1.0, "name": "backbone"},
        {"params": [model.bias], "lr": 0.1, "name": "head"},
    ]
    tuned = Tuned(model, torch.optim.SGD(groups))
    seen = []
    fit(tuned, batches(), steps=4, on_step=lambda step, loss: seen.append((step, tuned.rates())))
    assert [step for step, _ in seen] == [0, 1, 2, 3]
    for step, rates in seen:
        share = 0.5 * (1 + math.cos(math.pi * step / 4))
        assert rates == pytest.approx({"backbone": share, "head": 0.1 * share})


def test_a_loss_that_is_not_finite_stops_before_the_update():
    model = linear()
    tuned = Tuned(model, torch.optim.SGD([{"params": model.parameters(), "lr": 0.5}]))

    def spoilt():
        for step, batch in enumerate(batches()):
            yield {**batch, "image": batch["image"] * (math.inf if step == 3 else 1)}

    with pytest.raises(
        NonFiniteLoss, match=r"the loss is nan at step 3 \(learning rates: 0 0.5\)"
    ) as e:
        fit(tuned, spoilt(), steps=10, schedule="constant")
    assert "--lr" in str(e.value)
    assert len(e.value.log.loss) == 3
    assert model.weight.isfinite().all()


def test_a_gradient_that_the_optimizer_refuses_is_the_same_failure():
    class Root(Linear):
        def forward(self, batch):  # finite, with an infinite slope at zero
            return super().forward(batch) + self.weight.mul(0).abs().sqrt().sum()

    model = Root(4, 2)
    tuned = Tuned(model, SO(model.parameters(), lr=0.1, density_ratio=0.5))
    with pytest.raises(NonFiniteLoss, match=r"the gradient of .* is NaN or infinite .*at step 0"):
        fit(tuned, batches(), steps=3)


def test_without_an_optimizer_nothing_is_trained_and_the_forward_is_measured():
    model = linear()
    log = fit(Tuned(model), batches(), steps=5)
    assert (log.loss, log.step_seconds, log.gradient_bytes) == ([], [], 0)
    weights, batch, logits = 4 * 10, 4 * 8 * 4 + 8 * 8, 4 * 8 * 2
    assert log.peak_memory_bytes == weights + batch + logits


@pytest.mark.parametrize("steps", [1, 2, 3, 12])
def test_memory_is_measured_in_runs_of_any_length(steps):
    model = linear()
    log = fit(Tuned(model, torch.optim.AdamW(model.parameters())), batches(), steps=steps)
    assert log.peak_memory_bytes > log.gradient_bytes == 40
    assert len(log.loss) == len(log.step_seconds) == steps


def test_step_time_leaves_out_the_warm_up_and_the_watched_step():
    slow_start = FitLog(step_seconds=[9.0] * 5 + [1.0, 2.0, 3.0, 4.0, 5.0])
    assert slow_start.step_time() == StepTime(3.0, 2.0, 4.0, 5, 5)
    assert FitLog(step_seconds=[9.0, 9.0, 9.0, 1.0]).step_time() == StepTime(5.0, 3.0, 7.0, 2, 2)
    assert FitLog(step_seconds=[9.0, 9.0]).step_time() == StepTime(None, None, None, 2, 0)


def test_accuracy_counts_and_restores_the_mode():
    model = linear().train()
    stream = batches()
    test = [next(stream) for _ in range(3)]
    metrics = evaluate(model, test)
    right = sum(int((model(b).argmax(1) == b["label"]).sum()) for b in test)
    assert metrics == Metrics(correct=right, count=24, score=right / 24)
    assert metrics.accuracy + metrics.error == pytest.approx(1)
    assert model.training


def test_logits_that_are_not_finite_are_no_accuracy():
    model = linear()
    with torch.no_grad():
        model.weight.fill_(math.inf)
    with pytest.raises(NonFiniteLogits, match="--lr"):
        evaluate(model, [next(batches())])


def test_an_empty_test_set_is_refused():
    with pytest.raises(ValueError, match="test set is empty"):
        evaluate(linear(), [])
