"""Options of the loop: rates, parts of a batch, recomputation, early stops, selection."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from fewshot_bench.config import RunConfig, recorded, run_name
from fewshot_bench.fit import fit
from fewshot_bench.loop_options import LoopOptions
from fewshot_bench.methods import find_method
from fewshot_bench.pipeline import run
from fewshot_bench.results import read_result, write_result
from fewshot_bench.schedule import rate
from fewshot_bench.task import open_task
from fewshot_bench.tuned import Tuned
from fewshot_bench.update import precise, update

RESULTS = Path(__file__).parent.parent / "results"
TINY = {"checkpoint": "random"}


class Model(nn.Linear):
    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return super().forward(batch["image"])


def small(seed: int = 0) -> tuple[Tuned, dict[str, torch.Tensor]]:
    draw = torch.Generator().manual_seed(seed)
    model = Model(4, 3)
    with torch.no_grad():
        model.weight.copy_(torch.randn(3, 4, generator=draw))
        model.bias.zero_()
    batch = {"image": torch.randn(7, 4, generator=draw), "label": torch.arange(7) % 3}
    return Tuned(model, torch.optim.SGD(model.parameters(), lr=0.1)), batch


def forever(batch: dict[str, torch.Tensor]) -> Iterator[dict[str, torch.Tensor]]:
    while True:
        yield batch


def test_names_of_reviewed_results_still_hold() -> None:
    paths = sorted((RESULTS / "snell-ablations" / "runs").glob("*.json"))[::20]
    results = [read_result(path) for path in paths]
    assert results
    assert [run_name(r.run_info.config) for r in results] == [r.run_info.name for r in results]


def test_places_of_this_machine_are_no_part_of_a_run(tmp_path: Path) -> None:
    config = RunConfig(**TINY, method="linear_probe", steps=1, shots=1, test_limit=20)
    moved = replace(config, root=str(tmp_path), weights=str(tmp_path))
    assert run_name(moved) == run_name(config)
    path = write_result(run(moved), tmp_path / "result.json")
    assert str(tmp_path) not in path.read_text()
    assert read_result(path).run_info.config == replace(config, lr=None, head_lr=1e-2)


@pytest.mark.parametrize("group", ["data", "place", "loop"])
def test_every_later_option_counts_once_it_is_set(group: str) -> None:
    usual = RunConfig()
    changed = {
        "data": {
            "transforms": "clip", "subsample": "base", "template": "{}", "max_tokens": 9,
            "released_seed": True,
        },
        "place": {
            "positions": "top1", "encoders": "text", "roles": ["q"], "embeddings": True,
            "rest": True, "class_token": True,
        },
        "loop": {
            "epochs": 2, "stop_epoch_loss": 0.1, "stop_batch_loss": 0.1, "min_lr": 0.1,
            "warmup_epochs": 1, "warmup_lr": 0.1, "rate_changes": "epoch",
            "selection": "best-on-test", "look_every": 3, "precision": "bf16", "accumulate": 2,
            "checkpointing": True, "compile": True, "clip_norm": 1.0, "decay_vectors": False,
        },
    }  # fmt: skip
    chosen = changed[group]
    other = {"normalise"} if group == "data" else set()  # it needs a harness beside it
    assert {*chosen} | other == {*recorded(usual)[group]}
    names = {run_name(RunConfig.from_dict({group: {k: v}})) for k, v in chosen.items()}
    assert len(names | {run_name(usual)}) == len(chosen) + 1


def test_the_rates_of_the_snell_release() -> None:
    loop = LoopOptions(warmup_epochs=10, warmup_lr=1e-6, min_lr=1e-5, rate_changes="epoch")
    every = [
        rate(1e-3, step, 200, schedule="cosine", epoch_steps=2, loop=loop) for step in range(200)
    ]
    assert every[:4] == [1e-6] * 4
    assert max(every) == every[22] == pytest.approx(9.8e-4, rel=0.01)
    assert every[-1] == pytest.approx(1.1e-5, rel=0.1)


def test_a_batch_in_parts_gives_the_same_update() -> None:
    (whole, batch), (parts, _) = small(), small()
    for tuned, count in ((whole, 1), (parts, 3)):
        fit(tuned, forever(batch), steps=4, loop=LoopOptions(accumulate=count))
    torch.testing.assert_close(parts.model.weight, whole.model.weight)
    assert not torch.equal(whole.model.weight, small()[0].model.weight)


def test_a_scaled_loss_gives_the_same_update() -> None:
    (plain, batch), (scaled, _) = small(), small()
    loop = LoopOptions(clip_norm=0.05)
    full, half = precise("fp32", "cpu"), precise("fp16", "cpu")
    assert half.scaler is not None

    class Log:
        gradient_bytes = 0

    update(plain, plain.model, batch, loop, full, Log())
    update(scaled, scaled.model, batch, loop, replace(full, scaler=half.scaler), Log())
    torch.testing.assert_close(scaled.model.weight, plain.model.weight)


@pytest.mark.parametrize("method", ["full", "so", "lora", "snell"])
@pytest.mark.parametrize("backbone", ["tiny-vit", "tiny-clip", "tiny-bert"])
def test_recomputed_blocks_give_the_same_losses(
    method: str, backbone: str, configure: Callable[..., RunConfig]
) -> None:
    config = configure(method, backbone, steps=2, batch_size=4)
    again = replace(config, loop=LoopOptions(checkpointing=True))
    one, two = run(config).train_info, run(again).train_info
    assert two.loss == pytest.approx(one.loss, abs=1e-5)
    assert two.correct == one.correct


def test_recomputing_saves_memory(configure: Callable[..., RunConfig]) -> None:
    config = configure("full", steps=2)
    again = replace(config, loop=LoopOptions(checkpointing=True))
    assert run(again).train_info.peak_memory_bytes < run(config).train_info.peak_memory_bytes


def test_bf16_runs_in_bf16(configure: Callable[..., RunConfig]) -> None:
    config = configure("lora")
    half = run(replace(config, loop=LoopOptions(precision="bf16"))).train_info
    assert half.loss != run(config).train_info.loss
    assert half.loss == pytest.approx(run(config).train_info.loss, rel=0.05)


def test_fp16_needs_a_gpu() -> None:
    with pytest.raises(ValueError, match="fp16 needs a GPU"):
        RunConfig(loop=LoopOptions(precision="fp16"))
    assert RunConfig(loop=LoopOptions(precision="fp16"), device="cuda").device == "cuda"


def test_training_ends_after_a_pass_that_is_good_enough(
    configure: Callable[..., RunConfig],
) -> None:
    config = configure("full", batch_size=4, steps=60)  # 6 examples, 2 batches
    losses = run(config).train_info.loss
    means = [(4 * a + 2 * b) / 6 for a, b in zip(losses[::2], losses[1::2], strict=True)]
    limit = sorted(means)[len(means) // 2]
    first = next(i for i, mean in enumerate(means) if mean < limit)
    stopped = run(replace(config, loop=LoopOptions(stop_epoch_loss=limit))).train_info
    assert stopped.loss == losses[: 2 * (first + 1)]
    assert 0 < first < len(means) - 1


def test_training_ends_at_a_batch_that_is_good_enough(configure: Callable[..., RunConfig]) -> None:
    config = configure("full", steps=20)
    losses = run(config).train_info.loss
    stopped = run(replace(config, loop=LoopOptions(stop_batch_loss=losses[3]))).train_info
    assert stopped.loss == losses[: next(i for i, x in enumerate(losses) if x <= losses[3]) + 1]


def test_the_best_on_test_is_at_least_the_last(configure: Callable[..., RunConfig]) -> None:
    config = configure("full", lr=3e-2, loop=LoopOptions(epochs=12))
    last = run(config).train_info
    chosen = replace(config, loop=LoopOptions(epochs=12, selection="best-on-test", look_every=1))
    best = run(chosen).train_info
    assert best.loss == last.loss
    assert len(last.loss) == 12
    assert last.selected_step is None
    assert best.selected_step is not None
    assert best.accuracy >= last.accuracy
    # The same weights come out of a training that is cut there, its rates being the same.
    constant = replace(chosen, schedule="constant")
    best = run(constant).train_info
    steps = best.selected_step + 1
    cut = run(replace(constant, steps=steps, loop=LoopOptions())).train_info
    assert cut.correct == best.correct


@pytest.mark.slow
def test_a_compiled_model_gives_the_same_losses(configure: Callable[..., RunConfig]) -> None:
    config = configure("linear_probe", steps=2)
    compiled = run(replace(config, loop=LoopOptions(compile=True))).train_info
    assert compiled.loss == pytest.approx(run(config).train_info.loss, abs=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("method", ["full", "so", "lora", "klora", "snell"])
def test_every_method_learns_at_half_precision(
    method: str, precision: str, configure: Callable[..., RunConfig]
) -> None:
    config = configure(method, steps=6)
    losses = {}
    for name in ("fp32", precision):
        data, backbone = open_task(config)
        tuned = find_method(method).build(backbone, config)
        batches = data.train_batches(6, seed=0)
        # A configuration refuses fp16 on a CPU, which is slow there; the loop itself can do it.
        losses[name] = fit(tuned, batches, steps=6, loop=LoopOptions(precision=name)).loss
    assert losses[precision] == pytest.approx(losses["fp32"], rel=0.1)
    assert losses[precision] != losses["fp32"]
