"""What every backbone promises, checked on each tiny one in the catalog."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from vision_backbones import load_backbone


def test_batch_to_logits(tiny, batch, classes):
    logits = tiny(batch)
    assert logits.shape == (4, len(classes))
    assert logits.dtype == torch.float32
    assert tiny.features(batch).shape == (4, tiny.spec.width)
    assert logits.isfinite().all()


def test_starts_in_evaluation_mode_and_is_bitwise_repeatable(tiny, batch, wake_head):
    assert not any(module.training for module in tiny.modules())
    wake_head(tiny)
    with torch.no_grad():
        assert torch.equal(tiny(batch), tiny(batch))


def test_random_weights_come_from_the_seed_alone(tiny, load_random):
    torch.manual_seed(123)
    same, other = load_random(tiny.spec.name), load_random(tiny.spec.name, seed=1)
    own = tiny.state_dict()
    assert all(torch.equal(t, own[name]) for name, t in same.state_dict().items())
    assert any(not torch.equal(t, own[name]) for name, t in other.state_dict().items())


def test_global_generators_are_left_alone(tiny_name, load_random):
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1]  # noqa: NPY002
    load_random(tiny_name, seed=7)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2])  # noqa: NPY002


def test_images_in_a_batch_do_not_see_each_other(tiny, batch, wake_head):
    wake_head(tiny)
    with torch.no_grad():
        one_by_one = [tiny({k: v[i : i + 1] for k, v in batch.items()}) for i in range(4)]
        assert_close(tiny(batch), torch.cat(one_by_one))


def test_names_resolve_and_lie_inside_blocks(tiny):
    inside = {id(module) for block in tiny.blocks() for module in block.modules()}
    assert len(tiny.blocks()) == tiny.spec.blocks
    for name, matrix in tiny.matrices().items():
        assert tiny.get_parameter(name) is matrix
        assert matrix.ndim == 2
        assert id(tiny.get_submodule(name.rpartition(".")[0])) in inside
    for name, linear in tiny.linears().items():
        assert tiny.get_submodule(name) is linear
        assert isinstance(linear, nn.Linear)
        assert id(linear) in inside


def test_every_matrix_of_every_block_is_listed(tiny):
    expected = sum(p.ndim == 2 for block in tiny.blocks() for p in block.parameters())
    per_block = {"vit": 4, "clip": 4, "bert": 6}[tiny.spec.family]
    assert len(tiny.matrices()) == expected == per_block * tiny.spec.blocks


def test_linears_are_those_that_are_called(tiny, batch):
    called = set()
    for name, linear in tiny.linears().items():
        linear.register_forward_hook(lambda *_, name=name: called.add(name))
    tiny(batch)
    assert called == set(tiny.linears())


def test_all_matrices_are_weights_of_linears_once_attention_is_split(tiny):
    tiny.split_attention()
    assert set(tiny.matrices()) == {f"{name}.weight" for name in tiny.linears()}


def test_gradients_reach_every_matrix(tiny, batch, wake_head):
    wake_head(tiny)
    tiny.train()
    nn.functional.cross_entropy(tiny(batch), batch["label"]).backward()
    for name, matrix in tiny.matrices().items():
        assert matrix.grad is not None, name
        assert matrix.grad.abs().max() > 0, name


def test_splitting_attention_changes_no_output(tiny, batch, wake_head):
    tiny.double()
    wake_head(tiny)
    batch = {k: v.double() if v.is_floating_point() else v for k, v in batch.items()}
    before = tiny(batch)
    tiny.split_attention()
    tiny.split_attention()  # a second time there is nothing left to do
    assert_close(tiny(batch), before, rtol=0, atol=1e-12)


def test_head_is_linear_and_zero_or_has_no_parameters(tiny, batch, classes):
    if tiny.zero_shot:
        assert tiny.head_parameters() == []
        tiny.use_linear_head()
        assert not tiny.zero_shot
    else:
        head = tiny.head
        assert tiny(batch).abs().max() == 0
        tiny.use_linear_head()
        assert tiny.head is head
    assert isinstance(tiny.head, nn.Linear)
    assert len(tiny.head_parameters()) == 2
    assert tiny.head.weight.shape == (len(classes), tiny.spec.width)


def test_modality_decides_preprocessing_and_tokenizer(tiny):
    if tiny.spec.modality == "image":
        assert tiny.tokenizer is None
        assert tiny.preprocess == {
            "size": 32,
            "mean": (0.25, 0.25, 0.25),
            "std": (0.4, 0.4, 0.4),
            "channels": 3,
            "interpolation": "bicubic",
        }
    else:
        assert tiny.preprocess is None
        assert set(tiny.tokenizer("digit zero")) == {"input_ids", "attention_mask"}


def test_other_entries_of_a_batch_are_ignored(tiny, batch):
    without = {name: t for name, t in batch.items() if name != "label"}
    assert torch.equal(tiny(batch), tiny(without))


def test_batch_of_the_other_modality_is_refused(tiny):
    other = {"image": {"input_ids": torch.ones(1, 3)}, "text": {"image": torch.ones(1, 3, 32, 32)}}
    with pytest.raises(ValueError, match=rf"{tiny.spec.name} reads batch\['.*'\], but the batch"):
        tiny(other[tiny.spec.modality])


def test_batch_of_another_shape_is_refused(tiny):
    wrong = {
        "image": torch.ones(1, 3, 28, 28),
        "input_ids": torch.ones(1, 33, dtype=torch.long),
        "attention_mask": torch.ones(1, 33, dtype=torch.long),
    }
    with pytest.raises(ValueError, match=rf"has shape \(1, .*\), but {tiny.spec.name} takes"):
        tiny(wrong)


@pytest.mark.parametrize("class_names", [(), "digit", ["a", ""], ["a", 1]])
def test_bad_class_names(class_names):
    with pytest.raises(ValueError, match="class_names must be a list"):
        load_backbone("tiny-vit", class_names=class_names, checkpoint="random")


@pytest.mark.parametrize("templates", [(), "a {}", ["no name"], ["{} and {}"]])
def test_bad_templates(templates):
    with pytest.raises(ValueError, match="template"):
        load_backbone("tiny-vit", class_names=["a"], templates=templates, checkpoint="random")


def test_simulated_tensors_pass(tiny, batch):
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = {name: mode.from_tensor(tensor) for name, tensor in batch.items()}
        tiny.train()(fake).sum().backward()


def test_padding_does_not_change_the_features_of_a_text(load_random, make_batch):
    bert = load_random("tiny-bert")
    short = make_batch(bert.spec)
    longer = {k: nn.functional.pad(short[k], (0, 5)) for k in ("input_ids", "attention_mask")}
    with torch.no_grad():
        assert_close(bert.features(longer), bert.features(short))


@pytest.mark.parametrize("words", [0, 3, 100])
def test_bert_text_has_its_special_tokens_and_fits(words, load_random):
    tokenizer = load_random("tiny-bert").tokenizer
    encoded = tokenizer(" ".join(["digit"] * words))
    ids, mask = encoded["input_ids"], encoded["attention_mask"]
    assert (ids[0], ids[-1]) == (tokenizer.first, tokenizer.last)
    assert len(ids) == len(mask) <= 32
    assert set(mask) == {1}
