"""PEFT takes a backbone as it is: the names of `linears` are its target modules."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

peft = pytest.importorskip("peft")


def lora(backbone, **options):
    saved = ["head"] if backbone.head_parameters() else None
    config = peft.LoraConfig(
        r=2, target_modules=list(backbone.linears()), modules_to_save=saved, **options
    )
    return peft.get_peft_model(backbone, config)


@pytest.fixture(params=[False, True], ids=["own head", "linear head"])
def split(request, tiny, wake_head):
    """Each tiny backbone, ready for adapters, also with a linear head."""
    if request.param:
        tiny.use_linear_head()
    wake_head(tiny)
    tiny.split_attention()
    return tiny


def test_an_adapter_sits_on_every_linear_and_learns(split, make_batch):
    expected = len(split.linears())
    batch = make_batch(split.spec)
    before = split(batch).detach()
    model = lora(split)
    adapters = {n: p for n, p in model.named_parameters() if "lora_" in n}
    assert len(adapters) == 2 * expected
    assert_close(model(batch), before)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(model.train()(batch), batch["label"]).backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in adapters.values())


def test_trained_adapters_come_back_from_their_folder(split, tmp_path, make_batch, wake_head):
    batch = make_batch(split.spec)
    model = lora(split, init_lora_weights=False).eval()
    with torch.no_grad():
        expected = model(batch)
        model.save_pretrained(tmp_path)
        base = model.unload()
        wake_head(base, seed=5)
        loaded = peft.PeftModel.from_pretrained(base, tmp_path).eval()
        assert_close(loaded(batch), expected)


def test_switching_and_merging_adapters_is_seen_by_cached_prompts(split, make_batch):
    batch = make_batch(split.spec)
    with torch.no_grad():
        plain = split(batch)
        model = lora(split, init_lora_weights=False).eval()
        adapted = model(batch)
        assert not torch.allclose(adapted, plain)
        with model.disable_adapter():
            assert_close(model(batch), plain)
        model.merge_adapter()
        assert_close(model(batch), adapted, rtol=1e-4, atol=1e-4)
