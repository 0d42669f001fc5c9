"""The full-size models are really built and run once, with random weights."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from vision_backbones import list_backbones

pytestmark = pytest.mark.long


@pytest.mark.parametrize("name", [spec.name for spec in list_backbones() if not spec.bundled])
def test_one_training_step(name, load_random, make_batch, wake_head, classes):
    backbone = load_random(name)
    backbone.split_attention()
    wake_head(backbone)
    batch = make_batch(backbone.spec, 1)
    logits = backbone.train()(batch)
    assert logits.shape == (1, len(classes))
    F.cross_entropy(logits, batch["label"]).backward()
    matrices = backbone.matrices()
    assert all(m.grad is not None and m.grad.isfinite().all() for m in matrices.values())
    before = {name: m[0].detach().clone() for name, m in matrices.items()}
    # As long as the largest gradient allows: ConvNeXt's branches start multiplied by a millionth.
    largest = max(float(matrix.grad.abs().max()) for matrix in matrices.values())
    torch.optim.SGD(matrices.values(), lr=0.1 / largest).step()
    moved = [name for name, m in matrices.items() if not torch.equal(m[0], before[name])]
    assert len(moved) > 0.9 * len(matrices)


def test_prompts_of_the_full_size_clip_use_its_own_vocabulary(load_random):
    clip = load_random("clip-vit-b-32")
    tokens = clip.head.tokens
    assert tokens.shape == (6, 9)
    assert (tokens[:, 0] == 49406).all()
    full = F.pad(tokens, (0, 77 - tokens.shape[1]))
    with torch.no_grad():
        expected = clip.model.encode_text(full, normalize=True).view(3, 2, -1).mean(1)
        expected = clip.model.logit_scale.exp() * F.normalize(expected, dim=-1)
        torch.testing.assert_close(clip.class_weights(), expected)
