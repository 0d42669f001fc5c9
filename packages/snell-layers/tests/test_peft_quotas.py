"""An adapter whose layers got quotas of their own keeps them: saved, loaded, averaged, compiled."""

import copy
import importlib.util
from pathlib import Path

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

pytest.importorskip("peft")

from peft import PeftModel, get_peft_model, inject_adapter_in_model
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict

from snell_layers import SparsityAllocator
from snell_layers.factors import SnellFactors
from snell_layers.peft import SnellConfig

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

SPARSITY = 0.3


def load_models():
    spec = importlib.util.spec_from_file_location(
        "peft_models", Path(__file__).with_name("peft_models.py")
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


models = load_models()


@pytest.fixture(params=["plain", "open-clip", "bert"])
def name(request):
    pytest.importorskip(models.CASES[request.param].library)
    return request.param


@pytest.fixture
def base(name):
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return models.CASES[name].build()


@pytest.fixture
def batch(name, rng):
    return models.INPUTS[name](rng)


def config(name, **options):
    return SnellConfig(**{"r": 4, "sparsity": SPARSITY, **models.CASES[name].options, **options})


def train(name, model, batch, steps=4, allocator=None, average=None):
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02)
    model.train()
    for step in range(steps):
        if allocator is not None:
            allocator.allocate(step)
        optimizer.zero_grad()
        models.CASES[name].call(model, batch).square().mean().backward()
        optimizer.step()
        if allocator is not None:
            allocator.observe()
        if average is not None:
            average.update_parameters(model)


def allocator_of(model):
    return SparsityAllocator(model, final_sparsity=0.8, initial_sparsity=0.3, total=4)


def updates(model):
    return [m for m in model.modules() if isinstance(m, SnellFactors)]


def survivors(model):
    """Entries of every update that are not zero: what the quotas promise."""
    return [int(one.delta().count_nonzero()) for one in updates(model)]


@pytest.fixture
def tuned(name, base, batch):
    """Trained with an allocator, so that no layer has the configuration's sparsity any more."""
    model = get_peft_model(copy.deepcopy(base), config(name))
    train(name, model, batch, allocator=allocator_of(model))
    quotas = [int(one.kept) for one in updates(model)]
    assert len(set(quotas)) > 1
    assert all(one.rule.sparsity != SPARSITY for one in updates(model))
    assert survivors(model) == [
        q * one.pieces for q, one in zip(quotas, updates(model), strict=True)
    ]
    return model


@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
@pytest.mark.parametrize("is_trainable", [False, True])
def test_a_reloaded_adapter_has_its_quotas(
    name, base, tuned, batch, tmp_path, low_cpu_mem_usage, is_trainable
):
    expected, kept = models.output(name, tuned, batch), survivors(tuned)
    tuned.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(
        base, tmp_path, low_cpu_mem_usage=low_cpu_mem_usage, is_trainable=is_trainable
    )
    assert torch.equal(models.output(name, loaded, batch), expected)
    assert survivors(loaded) == kept
    if is_trainable:
        train(name, loaded, batch, steps=1)
        assert survivors(loaded) == kept, "training on does not fall back to the configuration"
    merged = loaded.merge_and_unload()
    assert not updates(merged)


def test_a_second_adapter_has_its_own_quotas(name, base, tuned, batch, tmp_path):
    expected = models.output(name, tuned, batch)
    tuned.save_pretrained(tmp_path)
    loaded = get_peft_model(base, config(name, seed=9, modules_to_save=None))
    before = survivors(loaded)
    loaded.load_adapter(tmp_path, "trained")
    loaded.set_adapter("trained")
    assert torch.equal(models.output(name, loaded, batch), expected)
    loaded.set_adapter("default")
    loaded.delete_adapter("trained")
    assert survivors(loaded) == before


def test_injected_and_copied_adapters_have_them(name, base, batch):
    options = {"modules_to_save": None}
    trained = inject_adapter_in_model(config(name, **options), copy.deepcopy(base))
    train(name, trained, batch, allocator=allocator_of(trained))
    expected = models.output(name, trained, batch)
    assert torch.equal(models.output(name, copy.deepcopy(trained), batch), expected)
    fresh = inject_adapter_in_model(config(name, **options, seed=9), base)
    set_peft_model_state_dict(fresh, get_peft_model_state_dict(trained))
    assert torch.equal(models.output(name, fresh, batch), expected)
    assert survivors(fresh) == survivors(trained)


def test_transformers_own_loader_keeps_them(rng, tmp_path):
    pytest.importorskip("transformers")
    with torch.random.fork_rng():
        torch.manual_seed(7)
        trained = models.bert()
    fresh, wrapped = copy.deepcopy(trained), copy.deepcopy(trained)
    batch = models.tokens(rng)
    trained.add_adapter(config("bert", modules_to_save=None))
    train("bert", trained, batch, allocator=allocator_of(trained))
    expected = models.output("bert", trained, batch)
    trained.save_pretrained(tmp_path)
    fresh.load_adapter(str(tmp_path))
    assert torch.equal(models.output("bert", fresh, batch), expected)
    assert survivors(fresh) == survivors(trained)
    loaded = PeftModel.from_pretrained(wrapped, tmp_path)
    assert torch.equal(models.output("bert", loaded, batch), expected)


@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize("decay", [None, 0.9])
def test_an_averaged_copy_is_sparsified_with_its_own_thresholds(
    name, base, batch, use_buffers, decay
):
    if name == "open-clip" and use_buffers:
        pytest.skip("CLIP's own buffer, a mask of minus infinity, has no average")
    model = get_peft_model(base, config(name))
    options = {} if decay is None else {"multi_avg_fn": get_ema_multi_avg_fn(decay)}
    average = AveragedModel(model, use_buffers=use_buffers, **options)
    train(name, model, batch, allocator=allocator_of(model), average=average)
    averaged = average.module.eval()
    output = models.output(name, averaged, batch)
    copied = updates(average)
    quotas = [int(one.kept) * one.pieces for one in copied]
    assert survivors(average) == quotas
    if not use_buffers:  # quotas are copied then; otherwise they are averaged, as was asked for
        assert survivors(average) == survivors(model)
    for one, other in zip(copied, updates(model), strict=True):
        assert not torch.equal(one.inner, other.inner)
        assert not torch.equal(one.threshold, other.threshold)
        w = one.rule.matrix(one.inner, one.outer, one._scalars()).abs().flatten(1)
        removed = one.entries - int(one.kept)
        assert torch.equal(one.threshold, w.sort().values[:, removed - 1])
    plain = averaged.merge_and_unload()
    torch.testing.assert_close(models.output(name, plain, batch), output, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_compiled_model_follows_its_quotas(rng):
    """Every move of the quotas compiles anew: the number of survivors is part of the graph."""
    batch = models.INPUTS["plain"](rng)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        base = models.CASES["plain"].build()
    eager = get_peft_model(base, config("plain"))
    compiled = copy.deepcopy(eager)
    torch._dynamo.reset()
    compiled.compile(backend="aot_eager")
    for model in (eager, compiled):
        train("plain", model, batch, steps=2, allocator=allocator_of(model))
    assert survivors(compiled) == survivors(eager)
    ours, theirs = (models.output("plain", model, batch) for model in (compiled, eager))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
