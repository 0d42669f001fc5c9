"""Hugging Face's Trainer: both routes, resuming, and what is saved."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from so_optim import SO

transformers = pytest.importorskip("transformers")

SETTINGS = {"lr": 1e-2, "density_ratio": 0.02, "T": 2}


def so_for(model, **settings):
    """SO on the encoder's matrices, with compact leaves; Adam on the classifier."""
    matrices = [p for p in model.bert.encoder.parameters() if p.ndim == 2]
    classifier = {"params": list(model.classifier.parameters()), "dense": True}
    optimizer = SO([{"params": matrices}, classifier], **settings)
    optimizer.sample_gradients(model)
    return optimizer


# Trainer calls the first element and gives the model to what that returns.
ROUTES = {"factory": (lambda: so_for, SETTINGS), "class": (SO, SETTINGS)}


def bert(kind=transformers.BertForSequenceClassification):
    config = transformers.BertConfig(
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=16,
        num_labels=3,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(config)


def examples():
    rng = torch.Generator().manual_seed(0)
    draws = torch.randint(60, (24, 8), generator=rng)
    return [{"input_ids": row, "labels": int(row.sum()) % 3} for row in draws]


def train(folder, route, resume=None, **options):
    """Six steps, saved after three."""
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=4,
        max_steps=6,
        save_steps=3,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **options,
    )
    trainer = transformers.Trainer(
        model=bert(),
        args=arguments,
        train_dataset=examples(),
        optimizer_cls_and_kwargs=ROUTES[route],
    )
    trainer.train(resume_from_checkpoint=resume)
    return SimpleNamespace(model=trainer.model, optimizer=trainer.optimizer.optimizer)


@pytest.fixture(scope="module", params=ROUTES)
def run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, folder, train(folder, request.param)


def assert_equal(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_resuming_goes_on_bit_for_bit(run):
    route, folder, whole = run
    resumed = train(folder, route, resume=str(folder / "checkpoint-3"))
    assert_equal(resumed.model.state_dict(), whole.model.state_dict())
    ours, theirs = resumed.optimizer.state_dict(), whole.optimizer.state_dict()
    assert_equal(ours.pop("state"), theirs.pop("state"))
    assert ours == theirs


def test_it_trains_what_it_was_given(run):
    route, _, done = run
    start = bert().state_dict()
    moved = {name for name, now in done.model.state_dict().items() if (now != start[name]).any()}
    matrix = "bert.encoder.layer.1.output.dense.weight"
    assert {matrix, "classifier.weight", "classifier.bias"} <= moved
    assert ("bert.embeddings.word_embeddings.weight" in moved) == (route == "class")
    changed = (done.model.state_dict()[matrix] != start[matrix]).sum()
    assert changed <= 3 * int(0.02 * 32 * 64)  # three supports in six steps


def test_what_is_saved_loads_into_the_plain_class(run, tmp_path):
    _, folder, done = run
    done.model.save_pretrained(tmp_path)
    for place in (tmp_path, folder / "checkpoint-6"):
        plain = transformers.BertForSequenceClassification.from_pretrained(place)
        assert_equal(plain.state_dict(), done.model.state_dict())


def test_accumulation_and_clipping(tmp_path):
    """Compact leaves take part in what Trainer does to gradients."""
    done = train(tmp_path, "factory", gradient_accumulation_steps=2, max_grad_norm=1e-12)
    start = bert().state_dict()["bert.encoder.layer.0.output.dense.weight"]
    moved = done.model.state_dict()["bert.encoder.layer.0.output.dense.weight"] - start
    assert 0 < moved.abs().max() < 1e-3  # clipped below eps, else a step moves by lr


def test_tied_weights_are_saved_once(tmp_path):
    model = bert(transformers.BertForMaskedLM)
    optimizer = SO(model.parameters(), **SETTINGS)
    optimizer.sample_gradients(model)
    tokens = torch.stack([example["input_ids"] for example in examples()])
    model(input_ids=tokens, labels=tokens).loss.backward()
    optimizer.step()
    model.save_pretrained(tmp_path)
    plain = transformers.BertForMaskedLM.from_pretrained(tmp_path)
    assert_equal(plain.state_dict(), model.state_dict())
    untrained = tmp_path / "untrained"
    bert(transformers.BertForMaskedLM).save_pretrained(untrained)
    sizes = [(f / "model.safetensors").stat().st_size for f in (tmp_path, untrained)]
    assert sizes[0] == sizes[1]


@pytest.mark.slow
def test_two_processes_stay_equal(tmp_path):
    """Trainer builds the optimizer first and wraps the model in DDP then."""
    launch = runpy.run_path(str(Path(__file__).parent / "travel_launch.py"))["launch"]
    reports = launch("travel_trainer_worker.py", tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert_equal(second, first)
    matrix = "bert.encoder.layer.1.output.dense.weight"
    assert (first[matrix] != bert().state_dict()[matrix]).any()
    model = bert()
    dense = {p for p in model.parameters() if "encoder" not in name_of(model, p) or p.ndim == 1}
    optimizer = so_for(model, **SETTINGS)
    k = sum(p.numel() for p in optimizer.param_groups[0]["params"])
    reduced = k + sum(p.numel() for p in dense)
    assert reports == [{"wrapper": "DistributedDataParallel", "reduced": reduced}] * 2


def name_of(model, parameter):
    return next(name for name, p in model.named_parameters() if p is parameter)
