"""Training as others run it: checkpointed activations, compiled graphs, a Trainer that resumes."""

import copy
import importlib.util
from pathlib import Path

import pytest
import torch

pytest.importorskip("peft")

from peft import get_peft_model

from snell_layers.peft import SnellConfig

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning"),
]


def load_models():
    spec = importlib.util.spec_from_file_location(
        "peft_models", Path(__file__).with_name("peft_models.py")
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


models = load_models()


def adapted(name, **options):
    pytest.importorskip(models.CASES[name].library)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        base = models.CASES[name].build()
    config = SnellConfig(**{"r": 4, "sparsity": 0.5, **models.CASES[name].options, **options})
    return get_peft_model(base, config)


def gradients(name, model, batch):
    """Of one training step, always with the same dropped inputs and samples."""
    model.train()
    model.zero_grad()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        output = models.CASES[name].call(model, batch)
        output.float().square().mean().backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}
    return output.detach(), grads


def checkpointed(name, model, reentrant):
    """The model with its own way to keep no activations."""
    if name in ("bert", "llama"):
        model.activation_checkpointing_enable({"use_reentrant": reentrant})
        if reentrant:
            model.enable_input_require_grads()  # or the first block's adapters train nothing
    else:
        inner = model.base_model.model
        inner.set_grad_checkpointing()
    return model


CHECKPOINTED = [
    ("bert", False),
    ("bert", True),
    ("llama", False),
    ("llama", True),
    ("timm-vit", False),
    ("timm-swin", False),
    ("timm-convnext-1x1", False),
    ("open-clip", False),
]


@pytest.mark.parametrize(("name", "reentrant"), CHECKPOINTED)
@pytest.mark.parametrize("dropped", [0.0, 0.3])
def test_checkpointed_activations_give_the_same_gradients(rng, name, reentrant, dropped):
    batch = models.INPUTS[name](rng)
    model = adapted(name, dropout=dropped, drop_path=dropped)
    output, expected = gradients(name, model, batch)
    again, found = gradients(name, checkpointed(name, model, reentrant), batch)
    assert torch.equal(again, output)
    assert found.keys() == expected.keys()
    assert any("snell" in name for name in found)
    for key in expected:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-5, atol=1e-7, msg=key)


COMPILED = [
    "plain",
    pytest.param("open-clip", marks=pytest.mark.slow),
    pytest.param("timm-vit-patches", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("name", COMPILED)
def test_a_compiled_model_trains_and_evaluates_alike(rng, name):
    batch = models.INPUTS[name](rng)
    model = adapted(name)
    output, expected = gradients(name, model, batch)
    torch._dynamo.reset()
    inner = model if name != "open-clip" else model.base_model.model.visual
    inner.compile(backend="aot_eager")
    again, found = gradients(name, model, batch)
    torch.testing.assert_close(again, output, rtol=1e-5, atol=1e-5)
    for key in expected:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-4, atol=1e-6, msg=key)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for _, parameter in twin.named_parameters():
            if parameter.requires_grad:
                parameter.mul_(1.5)  # the compiled graph must not hold on to a mask or a threshold
    assert not torch.allclose(models.output(name, twin, batch), models.output(name, model, batch))


@pytest.mark.slow
def test_inductor_compiles_a_step(rng):
    batch = models.INPUTS["plain"](rng)
    model = adapted("plain")
    output, expected = gradients("plain", model, batch)
    torch._dynamo.reset()
    model.compile()
    again, found = gradients("plain", model, batch)
    torch.testing.assert_close(again, output, rtol=1e-5, atol=1e-5)
    for key in expected:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-4, atol=1e-6, msg=key)


def dataset():
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 50, (24, 7), generator=generator)
    return [{"input_ids": row, "labels": int(row[0] > 25)} for row in tokens]


def trainer(model, folder):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=4,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        activation_checkpointing=True,
        max_grad_norm=1.0,
        learning_rate=1e-2,
        weight_decay=0.1,
        save_strategy="steps",
        save_steps=5,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        logging_strategy="no",
        seed=3,
    )
    return transformers.Trainer(model, arguments, train_dataset=dataset())


def test_a_resumed_trainer_ends_where_an_uninterrupted_one_does(tmp_path):
    """With dropped inputs and samples, accumulation, clipping and checkpointed activations."""
    options = {"dropout": 0.1, "drop_path": 0.2}
    with torch.random.fork_rng():
        whole = adapted("bert", **options)
        trainer(whole, tmp_path).train()
    with torch.random.fork_rng():
        resumed = adapted("bert", **options, seed=99)
        trainer(resumed, tmp_path).train(str(tmp_path / "checkpoint-5"))  # of 12 steps
    ours, theirs = resumed.state_dict(), whole.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    start = adapted("bert", **options).state_dict()
    assert not any(torch.equal(start[name], theirs[name]) for name in theirs if "inner" in name)
