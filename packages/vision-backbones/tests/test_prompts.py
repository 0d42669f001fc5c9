"""CLIP's class prompts: cutting is exact, averaging is the paper's, memory is never stale."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from vision_backbones import load_backbone
from vision_backbones.prompts import encode_text, prompt_tokens
from vision_backbones.text import ClipText
from vision_backbones.tiny import CLIP_CONTEXT, EOS_ID, tiny_tokenizer


@pytest.fixture
def clip(load_random):
    return load_random("tiny-clip")


@pytest.fixture
def encoded(monkeypatch):
    """How many prompts the text tower has seen in each call."""
    import vision_backbones.clip as module

    calls: list[int] = []

    def counting(model, tokens):
        calls.append(len(tokens))
        return encode_text(model, tokens)

    monkeypatch.setattr(module, "encode_text", counting)
    return calls


def full_length(tokens: torch.Tensor) -> torch.Tensor:
    return F.pad(tokens, (0, CLIP_CONTEXT - tokens.shape[1]))


def test_prompts_end_with_the_largest_id_and_are_cut_to_the_longest(clip, classes, templates):
    tokens = clip.head.tokens
    assert tokens.shape[0] == len(classes) * len(templates)
    assert tokens.shape[1] < CLIP_CONTEXT
    assert (tokens == EOS_ID).sum(dim=1).eq(1).all()
    assert (tokens[:, -1] == EOS_ID).any()


@pytest.mark.parametrize("words", [1, 100])
def test_long_prompts_lose_words_and_keep_their_end(words):
    tokens = ClipText(tiny_tokenizer(), CLIP_CONTEXT)([" ".join(["digit"] * words)])
    assert tokens.shape == (1, CLIP_CONTEXT)
    assert (tokens == EOS_ID).sum() == 1


def test_cut_prompts_give_the_library_s_features_and_gradients(clip):
    clip.double()
    tokens = clip.head.tokens
    parameters = [clip.model.token_embedding.weight, *clip.model.transformer.parameters()]
    cut, full = encode_text(clip.model, tokens), clip.model.encode_text(full_length(tokens))
    assert_close(cut, full, rtol=0, atol=1e-12)
    ours, theirs = (torch.autograd.grad(t[:, 0].sum(), parameters) for t in (cut, full))
    for our, their in zip(ours, theirs, strict=True):
        assert_close(our, their, rtol=0, atol=1e-12)


def test_logits_are_the_library_s_scaled_cosines(clip, make_batch, classes, templates):
    batch = make_batch(clip.spec)
    model = clip.model
    prompts = model.encode_text(full_length(clip.head.tokens), normalize=True)
    classes = F.normalize(prompts.view(len(classes), len(templates), -1).mean(1), dim=-1)
    images = model.encode_image(batch["image"], normalize=True)
    assert_close(clip(batch), model.logit_scale.exp() * images @ classes.T)


def test_names_go_into_templates_in_class_order():
    clip = load_backbone(
        "tiny-clip", class_names=["a", "b"], templates=["{}", "the {}"], checkpoint="random"
    )
    text = ClipText(tiny_tokenizer(), CLIP_CONTEXT)
    expected = text(["a", "the a", "b", "the b"])
    assert torch.equal(full_length(clip.head.tokens), expected)


def test_braces_in_a_class_name_are_just_characters(load_random):
    tokens = prompt_tokens(load_random("tiny-clip").spec, ("{x}", "{}"), ("a {}",))
    assert len(tokens) == 2


def test_linear_head_starts_at_the_zero_shot_logits(clip, make_batch):
    batch = make_batch(clip.spec)
    with torch.no_grad():
        before = clip(batch)
        clip.use_linear_head()
        assert torch.equal(clip(batch), before)
    assert not clip.zero_shot
    with pytest.raises(ValueError, match="linear already"):
        clip.class_weights()


def test_linear_head_leaves_only_the_image_tower_to_adapt(clip, make_batch):
    both = clip.matrices()
    clip.use_linear_head()
    image = clip.matrices()
    assert len(clip.blocks()) == 3
    assert set(image) == {name for name in both if ".visual." in name}
    clip.train()(make_batch(clip.spec)).sum().backward()
    assert all(matrix.grad is not None for matrix in image.values())


def test_training_encodes_all_prompts_in_every_step(clip, encoded, make_batch):
    for _ in range(2):
        clip.train()(make_batch(clip.spec))
    assert encoded == [6, 6]


def test_evaluation_encodes_all_prompts_once(clip, encoded, make_batch):
    with torch.no_grad():
        for seed in range(4):
            clip(make_batch(clip.spec, seed=seed))
    assert encoded == [1, 6, 1, 1, 1]


def test_frozen_text_tower_is_encoded_once_while_the_image_tower_trains(clip, encoded, make_batch):
    clip.requires_grad_(False)
    clip.model.visual.requires_grad_(True)
    for _ in range(2):
        clip.train()(make_batch(clip.spec)).sum().backward()
    assert encoded.count(6) == 1
    assert clip.model.visual.proj.grad is not None


def change_in_place(clip):
    clip.model.transformer.resblocks[1].mlp.c_fc.weight.mul_(2)


def change_data(clip):
    clip.model.transformer.resblocks[1].mlp.c_fc.weight.data.mul_(2)


def change_one_word(clip):
    clip.model.token_embedding.weight[clip.head.tokens[-1, -2]].add_(1)


def change_scale(clip):
    clip.model.logit_scale.add_(1)


def change_by_loading(clip):
    clip.load_state_dict({name: t + 0.1 for name, t in clip.state_dict().items()})


def change_behaviour(clip):
    clip.model.ln_final.register_forward_hook(lambda _, __, output: output * output)


def change_prompts(clip):
    clip.head.tokens = clip.head.tokens.flip(0)


@pytest.mark.parametrize(
    "change",
    [
        change_in_place,
        change_data,
        change_one_word,
        change_scale,
        change_by_loading,
        change_behaviour,
        change_prompts,
    ],
)
def test_whatever_changes_the_text_tower_is_seen(clip, change, load_random, make_batch):
    batch = make_batch(clip.spec)
    with torch.no_grad():
        clip(batch)
        change(clip)
        remembered = clip(batch)
        fresh = load_random("tiny-clip")
        change(fresh)
        assert torch.equal(remembered, fresh(batch))


def test_dtype_and_mode_changes_are_seen(clip, make_batch):
    batch = make_batch(clip.spec)
    with torch.inference_mode():
        clip(batch)
    clip.requires_grad_(False)
    image = batch["image"].requires_grad_()
    clip({"image": image}).sum().backward()  # inference tensors could not enter this graph
    with torch.no_grad():
        assert clip.double()({"image": image.double()}).dtype == torch.float64


def test_simulated_tensors_are_never_remembered(clip, make_batch, classes):
    from torch._subclasses.fake_tensor import FakeTensorMode

    batch = make_batch(clip.spec)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        assert clip(batch).shape == (4, len(classes))
    with torch.no_grad():
        assert type(clip(batch)) is torch.Tensor
