"""One matrix: every method on every bundled backbone that it applies to."""

from pathlib import Path

import pytest
import torch

from fewshot_bench.adapters import evaluate_saved
from fewshot_bench.methods import METHODS
from fewshot_bench.pipeline import run, train
from fewshot_bench.results import read_result, write_result
from fewshot_bench.task import open_task
from vision_backbones import list_backbones

MATRIX = [
    pytest.param(method.name, spec.name, id=f"{method.name}-{spec.name}")
    for spec in list_backbones()
    if spec.bundled
    for method in METHODS.values()
    if method.applies(spec) is None
]
ADAPTERS = ("lora", "klora", "snell", "dora", "shira", "supertuning")
each = pytest.mark.parametrize(("method", "backbone"), MATRIX)


def steady(result):
    """Give what a repeat must reproduce exactly: all but times."""
    return {**result.to_dict()["train_info"], "step_time_s": None}


@each
def test_a_run_repeats_bit_for_bit_and_its_save_evaluates_the_same(
    configure, tmp_path, method, backbone
):
    config, folder = configure(method, backbone), tmp_path / "saved"
    first = run(config, save=folder)
    assert first.run_info.status == "completed", first.run_info.error
    assert steady(first) == steady(run(config))

    info = first.train_info
    assert len(info.loss) == (0 if method == "zero_shot" else config.steps)
    assert info.correct == round(info.accuracy * info.count)
    assert info.changed_parameters <= info.trainable_parameters <= info.total_parameters
    assert (info.changed_parameters == 0) == (method == "zero_shot")
    assert info.peak_memory_bytes > 4 * info.total_parameters + info.optimizer_state_bytes

    again = evaluate_saved(folder)
    assert (again.correct, again.count) == (info.correct, info.count)
    written = [path.stat().st_size for path in folder.glob("*.safetensors")]
    assert written == [info.adapter_bytes]
    assert read_result(write_result(first, tmp_path / "run.json")) == first


@each
def test_a_saved_model_gives_the_same_logits_to_the_last_bit(configure, tmp_path, method, backbone):
    from fewshot_bench import adapters
    from fewshot_bench.pipeline import score

    config = configure(method, backbone)
    trained = train(config)
    scores = score(config, trained.tuned, trained.data)
    adapters.save(trained.tuned, config, tmp_path / "saved", scores, trained.data.class_names)
    loaded, data, _ = adapters.load(tmp_path / "saved")
    batch = next(iter(data.test_batches(8)))
    with torch.no_grad():
        ours, theirs = trained.tuned.model.eval()(batch), loaded.model.eval()(batch)
    assert torch.equal(ours, theirs)


def weights_before(config) -> dict[str, torch.Tensor]:
    """Give the weights that a run starts from, by name."""
    _, backbone = open_task(config)
    return {name: tensor.clone() for name, tensor in backbone.state_dict().items()}


def weights_after(config) -> dict[str, torch.Tensor]:
    """Give the backbone's own weights after a run, by the names they had before."""
    state = train(config).tuned.model.state_dict()
    plain = {
        name.removeprefix("base_model.model.")
        .replace(".base_layer.", ".")
        .replace(".modules_to_save.default.", ".")
        .replace(".original_module.", ".original."): tensor
        for name, tensor in state.items()
    }
    return plain


def changed_names(config) -> set[str]:
    """Give the names of the backbone's weights that a run changed."""
    before, after = weights_before(config), weights_after(config)
    assert set(before) <= set(after)
    return {name for name in before if not torch.equal(before[name], after[name])}


@each
def test_the_weights_repeat_to_the_last_bit(configure, method, backbone):
    config = configure(method, backbone)
    one, other = weights_after(config), weights_after(config)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@each
def test_a_method_changes_what_it_says_and_nothing_else(configure, method, backbone):
    config = configure(method, backbone)
    _, plain = open_task(config)
    changed = changed_names(config)
    head = {name for name in plain.state_dict() if name.startswith("head.")}
    matrices = set(plain.matrices())
    if method == "zero_shot":
        assert not changed
    elif method in ("linear_probe", *ADAPTERS):
        assert changed == head
    elif method == "bias":
        assert head < changed  # CLIP's class prompts have no head of their own
        assert all(name.endswith("bias") for name in changed - {"head.weight"})
    elif method == "so":
        assert changed == head | matrices
    else:
        assert method in ("full", "adamw_8bit", "galore")
        assert head | matrices < changed


@pytest.mark.parametrize("backbone", ["tiny-vit", "tiny-clip", "tiny-bert"])
def test_full_trains_every_parameter_that_the_logits_depend_on(configure, backbone):
    config = configure("full", backbone, steps=1)
    tuned = train(config).tuned
    assert all(parameter.grad is not None for parameter in tuned.trained())
    idle = [name for name, p in tuned.model.named_parameters() if p.grad is None]
    assert not idle


@pytest.mark.parametrize("backbone", ["tiny-vit", "tiny-clip", "tiny-bert"])
def test_so_changes_only_the_support_of_each_matrix(configure, backbone):
    config = configure("so", backbone, steps=4)  # one support lives 5 steps
    before, after = weights_before(config), weights_after(config)
    _, plain = open_task(config)
    for name in plain.matrices():
        changed = int((before[name] != after[name]).sum())
        assert 0 < changed <= int(config.so.density_ratio * before[name].numel())


@pytest.mark.parametrize("backbone", ["tiny-vit", "tiny-clip", "tiny-bert"])
@pytest.mark.parametrize("method", ADAPTERS)
def test_every_linear_layer_of_the_blocks_gets_a_live_adapter(configure, method, backbone):
    config = configure(method, backbone)
    _, plain = open_task(config)
    tuned = train(config).tuned
    trained = [(name, p) for name, p in tuned.model.named_parameters() if p.requires_grad]
    for linear in plain.linears():
        own = [p for name, p in trained if f"{linear}." in name]
        assert own
        assert any(p.grad is not None and p.grad.any() for p in own)


def test_memory_orders_the_methods_as_their_design_says(configure):
    def info(method):
        return run(configure(method)).train_info

    probe, bias, full = info("linear_probe"), info("bias"), info("full")
    assert probe.peak_memory_bytes < bias.peak_memory_bytes < full.peak_memory_bytes
    assert probe.gradient_bytes == 4 * probe.trainable_parameters
    assert full.gradient_bytes == 4 * full.trainable_parameters
    assert info("so").optimizer_state_bytes < full.optimizer_state_bytes / 5
    assert info("lora").adapter_bytes < full.adapter_bytes / 5


def test_saved_files_are_safetensors_and_json_only(configure, tmp_path):
    for method in ("full", "snell"):
        run(configure(method), save=tmp_path / method)
    kinds = {path.suffix for path in Path(tmp_path).rglob("*") if path.is_file()}
    assert kinds <= {".safetensors", ".json", ".md"}
