"""How good pretrained features are on the embedded targets, with nothing but a linear probe."""

import statistics
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot_data import FewShotData, few_shot
from fewshot_data.transforms import image_transforms, text_transforms
from vision_backbones import Backbone, load_backbone

__all__ = ["scores"]

SEEDS = (101, 102, 103)  # not those of any table
SHOTS = (1, 4, 16)
PROBE_STEPS = 200
TARGETS = {
    "tiny-vit": ("digits", "glyphs-georgian", "glyphs-georgian-outline"),
    "tiny-clip": ("digits", "glyphs-combos-outline"),
    "tiny-bert": ("unicode-names", "unicode-names-script"),
}


def scores(name: str, checkpoint: str | None) -> dict[str, float]:
    """Score a tiny backbone on its targets.

    Args:
        name: Catalog name.
        checkpoint: As for `load_backbone`: a file, `None` for the bundled one, or `"random"`.

    Returns:
        Accuracy in percent, mean over three seeds: `"<dataset> probe <k> shots"`, and for CLIP
        `"<dataset> zero-shot"`.
    """
    result: dict[str, float] = {}
    for dataset in TARGETS[name]:
        drawn = {(seed, k): few_shot(dataset, k, seed=seed) for seed in SEEDS for k in SHOTS}
        data = drawn[SEEDS[0], SHOTS[0]]
        backbone = load_backbone(
            name, class_names=data.prompt_names, templates=data.templates, checkpoint=checkpoint
        )
        transform = _transform(backbone)
        if backbone.zero_shot:
            batches = data.with_transform(transform).test_batches(512)
            right, total = _right(backbone, batches)
            result[f"{dataset} zero-shot"] = round(100 * right / total, 1)
        for k in SHOTS:
            found = [_probe(backbone, drawn[s, k].with_transform(transform)) for s in SEEDS]
            result[f"{dataset} probe {k} shots"] = round(100 * statistics.mean(found), 1)
    return result


def _transform(backbone: Backbone) -> object:
    """What the backbone reads."""
    if backbone.preprocess is not None:
        return image_transforms(**backbone.preprocess)
    assert backbone.tokenizer is not None
    return text_transforms(backbone.tokenizer)


@torch.no_grad()
def _right(model: Callable[[dict[str, Tensor]], Tensor], batches) -> tuple[int, int]:
    """Correct answers and all answers."""
    pairs = [(model(batch).argmax(1) == batch["label"]) for batch in batches]
    return int(sum(p.sum() for p in pairs)), sum(len(p) for p in pairs)


def _probe(backbone: Backbone, data: FewShotData) -> float:
    """Accuracy of logistic regression on frozen, standardised features."""
    train = _features(backbone, data.train.in_order(512))
    test = _features(backbone, data.test_batches(512))
    mean, std = train[0].mean(0), train[0].std(0) + 1e-3
    head = nn.Linear(train[0].shape[1], len(data.class_names))
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.02, weight_decay=0.1)
    for _ in range(PROBE_STEPS):
        optimizer.zero_grad()
        F.cross_entropy(head((train[0] - mean) / std), train[1]).backward()
        optimizer.step()
    with torch.no_grad():
        answers = head((test[0] - mean) / std).argmax(1)
    return (answers == test[1]).float().mean().item()


@torch.no_grad()
def _features(backbone: Backbone, batches) -> tuple[Tensor, Tensor]:
    """Features and labels of a whole split."""
    pairs = [(backbone.features(batch), batch["label"]) for batch in batches]
    return torch.cat([f for f, _ in pairs]), torch.cat([y for _, y in pairs])
