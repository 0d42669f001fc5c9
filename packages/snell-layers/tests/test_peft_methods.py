"""A full PEFT citizen: every operation of PEFT, on every model family."""

import copy
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("peft")

from peft import PeftModel, get_peft_model

from snell_layers.factors import SnellFactors
from snell_layers.peft import SnellAdapter, SnellConfig

# PEFT 0.21 asks transformers 5.23 for a deprecated alias whenever it wraps one of its models.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

MODELS = Path(__file__).with_name("peft_models.py")


def load_models():
    spec = importlib.util.spec_from_file_location("peft_models", MODELS)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


models = load_models()


@pytest.fixture(params=models.CASES)
def name(request):
    pytest.importorskip(models.CASES[request.param].library)
    return request.param


@pytest.fixture
def batch(name, rng, device):
    return {key: value.to(device) for key, value in models.INPUTS[name](rng).items()}


@pytest.fixture
def base(name, device):
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return models.CASES[name].build().to(device)


def config(name, **options):
    defaults = {"r": 8, "sparsity": 0.8, "seed": 3}
    return SnellConfig(**{**defaults, **models.CASES[name].options, **options})


def train(name, model, batch, steps=3, lr=0.02):
    """A few steps of whatever is trainable; returns the trained names."""
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), lr=lr)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        models.CASES[name].call(model, batch).square().mean().backward()
        missing = [n for n, p in trained.items() if p.grad is None]
        assert not missing, f"no gradient reached {missing}"
        optimizer.step()
    return trained


@pytest.fixture
def tuned(name, base, batch):
    """A trained adapter on a copy of the base."""
    model = get_peft_model(copy.deepcopy(base), config(name))
    train(name, model, batch)
    return model


def layers(model):
    return [m for m in model.modules() if isinstance(m, SnellAdapter)]


def updates(model):
    return [m for m in model.modules() if isinstance(m, SnellFactors)]


def weights(model):
    return [weight for layer in layers(model) for weight in layer.adapted_weights()]


def test_training_moves_the_adapter_and_nothing_of_the_base(name, base, tuned, batch):
    assert len(updates(tuned)) == models.CASES[name].adapted
    before, after = base.state_dict(), tuned.unload().state_dict()
    saved = models.CASES[name].options.get("modules_to_save", [])
    for key, value in before.items():
        if key.split(".")[0] not in saved:
            assert torch.equal(after[key], value), key


def test_the_trained_model_differs_and_disabling_restores_the_base(name, base, tuned, batch):
    base.requires_grad_(False)  # torch's linear takes another path, so other bits, where it is true
    with_adapter = models.output(name, tuned, batch)
    assert not torch.allclose(with_adapter, models.output(name, base, batch), atol=1e-4)
    with tuned.disable_adapter():
        torch.testing.assert_close(
            models.output(name, tuned, batch), models.output(name, base, batch), rtol=0, atol=0
        )
    assert torch.equal(models.output(name, tuned, batch), with_adapter)


def test_every_update_has_the_requested_sparsity(tuned):
    for factors in updates(tuned):
        for piece in factors.delta().chunk(factors.pieces):
            kept = piece.numel() - -(-piece.numel() * 8 // 10)
            assert piece.count_nonzero() == kept


@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
@pytest.mark.parametrize("is_trainable", [False, True])
def test_a_reloaded_adapter_is_equal_bit_for_bit(
    name, base, tuned, batch, tmp_path, low_cpu_mem_usage, is_trainable
):
    expected = models.output(name, tuned, batch)
    tuned.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(
        base, tmp_path, low_cpu_mem_usage=low_cpu_mem_usage, is_trainable=is_trainable
    )
    assert torch.equal(models.output(name, loaded, batch), expected)
    assert {p.requires_grad for n, p in loaded.named_parameters() if "snell" in n} == {is_trainable}
    if is_trainable:
        train(name, loaded, batch, steps=1)


def test_thresholds_are_saved_and_rule_a_frozen_adapter(name, base, tuned, tmp_path):
    from safetensors.torch import load_file

    tuned.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    thresholds = {k: v for k, v in saved.items() if k.endswith(".threshold")}
    assert len(thresholds) == models.CASES[name].adapted
    loaded = PeftModel.from_pretrained(base, tmp_path)
    for kept, made in zip(updates(loaded), updates(tuned), strict=True):
        assert torch.equal(kept.threshold, made.threshold)
        assert kept._stored_threshold() is not None, "the loaded value should be in use"


def test_merged_equals_unmerged_and_unmerge_is_exact(name, tuned, batch):
    before = [weight.clone() for weight in weights(tuned)]
    expected = models.output(name, tuned, batch)
    tuned.merge_adapter()
    torch.testing.assert_close(models.output(name, tuned, batch), expected, rtol=1e-5, atol=1e-5)
    assert not any(map(torch.equal, weights(tuned), before))
    tuned.unmerge_adapter()
    assert all(map(torch.equal, weights(tuned), before))
    assert torch.equal(models.output(name, tuned, batch), expected)


def test_merge_and_unload_gives_a_plain_model(name, base, tuned, batch):
    expected = models.output(name, tuned, batch)
    plain = tuned.merge_and_unload(safe_merge=True)
    assert not layers(plain)
    assert plain.state_dict().keys() == base.state_dict().keys()
    torch.testing.assert_close(models.output(name, plain, batch), expected, rtol=1e-5, atol=1e-5)


def test_several_adapters(name, tuned, batch):
    first = models.output(name, tuned, batch)
    tuned.add_adapter("other", config(name, sparsity=0.5, r=4, seed=9))
    assert torch.equal(models.output(name, tuned, batch), first), "adding is not activating"
    tuned.set_adapter("other")
    trained = train(name, tuned, batch, lr=0.05)
    assert all("other" in n for n in trained if "snell" in n)
    second = models.output(name, tuned, batch)
    assert not torch.allclose(second, first, atol=1e-4)
    tuned.set_adapter("default")
    assert torch.equal(models.output(name, tuned, batch), first)
    tuned.set_adapter("other")
    assert torch.equal(models.output(name, tuned, batch), second)
    tuned.merge_adapter(["default"])  # one that is frozen since it was trained
    tuned.unmerge_adapter()
    tuned.set_adapter("default")
    tuned.delete_adapter("other")
    assert torch.equal(models.output(name, tuned, batch), first)
    assert not any("other" in n for n, _ in tuned.named_parameters())


def test_both_adapters_at_once_add_up(name, base, batch):
    options = {"sparsity": 0, "modules_to_save": None}  # PEFT allows one active head only
    plain = copy.deepcopy(base)
    model = get_peft_model(base, config(name, **options))
    model.add_adapter("other", config(name, **options, seed=9))
    twin = get_peft_model(plain, config(name, **options))
    for layer, other in zip(layers(model), layers(twin), strict=True):
        deltas = (layer.get_delta_weights(adapter) for adapter in ("default", "other"))
        for weight, one, two in zip(other.adapted_weights(), *deltas, strict=True):
            weight.data = weight + one + two
    with twin.disable_adapter():
        expected = models.output(name, twin, batch)
    model.base_model.set_adapter(["default", "other"])
    torch.testing.assert_close(models.output(name, model, batch), expected)
    model.merge_adapter(["default", "other"])
    torch.testing.assert_close(models.output(name, model, batch), expected)


def test_a_deep_copy_is_equal_and_independent(name, tuned, batch):
    expected = models.output(name, tuned, batch)
    twin = copy.deepcopy(tuned)
    assert torch.equal(models.output(name, twin, batch), expected)
    train(name, twin, batch, steps=1)
    assert torch.equal(models.output(name, tuned, batch), expected)


def test_the_start_depends_on_the_seed_and_the_module_name_alone(name, base):
    state = torch.get_rng_state()
    a, b, c = (
        updates(get_peft_model(copy.deepcopy(base), config(name, modules_to_save=None, seed=seed)))
        for seed in (3, 3, 4)
    )
    assert torch.equal(torch.get_rng_state(), state)
    for x, y, z in zip(a, b, c, strict=True):
        assert torch.equal(x.inner, y.inner)
        assert not torch.equal(x.inner, z.inner)
    starts = {factors.inner.flatten()[0].item() for factors in a}
    assert len(starts) == len(a), "two modules share their factors"


FRESH_PROCESS = """
import importlib.util, sys, torch
from pathlib import Path
from peft import PeftModel
import snell_layers.peft

models_file, root, names = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
spec = importlib.util.spec_from_file_location("peft_models", models_file)
models = importlib.util.module_from_spec(spec)
spec.loader.exec_module(models)
for name in names:
    base = models.CASES[name].build()
    base.load_state_dict(torch.load(root / name / "base.pt", weights_only=True))
    batch = torch.load(root / name / "batch.pt", weights_only=True)
    loaded = PeftModel.from_pretrained(base, root / name / "adapter")
    torch.save(models.output(name, loaded, batch), root / name / "output.pt")
"""


def test_a_fresh_process_gives_the_same_bits(rng, tmp_path):
    names, expected = ("plain", "bert"), {}
    for name in names:
        batch = models.INPUTS[name](rng)
        base = models.CASES[name].build()
        tuned = get_peft_model(copy.deepcopy(base), config(name))
        train(name, tuned, batch)
        expected[name] = models.output(name, tuned, batch)
        tuned.save_pretrained(tmp_path / name / "adapter")
        torch.save(base.state_dict(), tmp_path / name / "base.pt")
        torch.save(batch, tmp_path / name / "batch.pt")
    command = [sys.executable, "-c", FRESH_PROCESS, str(MODELS), str(tmp_path), *names]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    for name in names:
        output = torch.load(tmp_path / name / "output.pt", weights_only=True)
        assert torch.equal(output, expected[name])


def test_injected_without_a_wrapper(name, base, batch):
    """`inject_adapter_in_model` and the state dict functions, as other libraries use them."""
    from peft import inject_adapter_in_model
    from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict

    options = {"modules_to_save": None}
    trained = inject_adapter_in_model(config(name, **options), copy.deepcopy(base))
    train(name, trained, batch)
    expected = models.output(name, trained, batch)
    fresh = inject_adapter_in_model(config(name, **options, seed=99), base)
    assert not torch.equal(models.output(name, fresh, batch), expected)
    result = set_peft_model_state_dict(fresh, get_peft_model_state_dict(trained))
    assert not result.unexpected_keys
    assert torch.equal(models.output(name, fresh, batch), expected)


def test_transformers_own_adapter_methods(batch_of_tokens, tmp_path, device):
    pytest.importorskip("transformers")
    with torch.random.fork_rng():
        torch.manual_seed(7)
        trained = models.bert().to(device)
    fresh = copy.deepcopy(trained)
    trained.add_adapter(config("bert", modules_to_save=None))
    train("bert", trained, batch_of_tokens)
    expected = models.output("bert", trained, batch_of_tokens)
    trained.save_pretrained(tmp_path)
    fresh.load_adapter(str(tmp_path))
    assert torch.equal(models.output("bert", fresh, batch_of_tokens), expected)


@pytest.fixture
def batch_of_tokens(rng, device):
    return {key: value.to(device) for key, value in models.tokens(rng).items()}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_types_of_base(name, base, batch, dtype):
    """A bf16 base trains through a second operand, a float64 base in float64."""
    model = get_peft_model(base.to(dtype), config(name, sparsity=0.5))
    batch = {k: v.to(dtype) if v.is_floating_point() else v for k, v in batch.items()}
    train(name, model, batch, steps=2)
    expected = models.output(name, model, batch)
    assert expected.dtype == dtype
    model.merge_adapter()
    close = {"rtol": 0.05, "atol": 0.05} if dtype == torch.bfloat16 else {}
    torch.testing.assert_close(models.output(name, model, batch), expected, **close)
    model.unmerge_adapter()
    assert torch.equal(models.output(name, model, batch), expected)
