"""A mask that is chosen once: which entries it keeps, and that nothing else ever moves."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from fewshot_bench import adapters
from fewshot_bench.config import RunConfig, SnellOptions
from fewshot_bench.fixed_mask import HEAD_STD, MaskedLinear
from fewshot_bench.methods import METHODS
from fewshot_bench.pipeline import run, score, train
from fewshot_bench.seeds import derive
from fewshot_bench.task import open_task

FIXED = SnellOptions(sparsifier="hard", mask="fixed", sparsity=0.9)
each = pytest.mark.parametrize("backbone", ["tiny-vit", "tiny-clip", "tiny-bert"])


def masked(model) -> dict[str, MaskedLinear]:
    return {name: m for name, m in model.named_modules() if isinstance(m, MaskedLinear)}


@each
def test_the_update_lives_where_the_mask_says_and_the_weight_stays(configure, backbone):
    config = configure("snell", backbone, snell=FIXED, lr=1e-2)
    _, plain = open_task(config)
    layers = masked(train(config).tuned.model)
    assert set(layers) == set(plain.linears())
    for name, layer in layers.items():
        assert torch.equal(layer.base.weight, plain.linears()[name].weight)
        delta = layer.delta_weight().view(layer.factors.pieces, -1)
        kept = delta.shape[1] - -(-9 * delta.shape[1] // 10)
        assert layer.mask.view(delta.shape).sum(1).tolist() == [kept] * len(delta)
        assert torch.equal(delta != 0, layer.mask.view(delta.shape))


def test_the_mask_is_that_of_the_largest_squared_gradients(configure):
    """The same sums again, by hand, on a plain backbone."""
    config = configure("snell", snell=FIXED, batch_size=4)
    layers = masked(train(config).tuned.model)
    data, plain = open_task(config)
    generator = torch.Generator().manual_seed(derive(config.seed).init)
    for parameter in plain.head.parameters():
        parameter.data = HEAD_STD * torch.randn(parameter.shape, generator=generator)
    sums = {name: torch.zeros_like(linear.weight) for name, linear in plain.linears().items()}
    batches = data.train_batches(4, seed=derive(config.seed).order)
    for _ in range(2):  # 3 classes of 2 shots: a batch of 4 and one of 2
        batch = next(batches)
        plain.zero_grad()
        cross_entropy(plain.eval()(batch), batch["label"]).backward()
        for name, linear in plain.linears().items():
            sums[name] += linear.weight.grad.square()
    for name, layer in layers.items():
        squares = sums[name].view(layer.factors.pieces, -1)
        chosen = layer.mask.view(squares.shape)
        for row, mask in zip(squares, chosen, strict=True):
            assert row[mask].min() >= row[~mask].max() > 0


def test_with_nothing_masked_it_is_klora(configure):
    config = configure("snell", snell=replace(FIXED, sparsity=0.0))
    _, backbone = open_task(config)
    layer = next(iter(masked(METHODS["snell"](backbone, config).model).values()))
    assert not layer.delta_weight().any(), "until the survey nothing moves"
    layer.mask.fill_(True)
    assert torch.equal(layer.delta_weight(), layer.factors.delta())
    x = torch.randn(5, layer.base.in_features)
    torch.testing.assert_close(layer(x), layer.factors(x, layer.base.weight, layer.base.bias))
    layer(x).square().sum().backward()
    slow = [layer.factors.inner.grad.clone(), layer.factors.outer.grad.clone()]
    layer.zero_grad()
    layer.factors(x, layer.base.weight, layer.base.bias).square().sum().backward()
    for one, other in zip(slow, (layer.factors.inner, layer.factors.outer), strict=True):
        torch.testing.assert_close(one, other.grad)


@each
def test_it_starts_with_the_factors_of_the_dynamic_mask(configure, backbone):
    def factors(options):
        config = configure("snell", backbone, snell=options)
        _, plain = open_task(config)
        tuned = METHODS["snell"].build(plain, config)
        return [
            p for name, p in tuned.model.named_parameters() if name.endswith(("inner", "outer"))
        ]

    ours, theirs = factors(FIXED), factors(replace(FIXED, mask="dynamic"))
    assert ours
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


@each
def test_it_repeats_and_is_the_same_after_loading(configure, tmp_path, backbone):
    config = configure("snell", backbone, snell=FIXED, lr=1e-2)
    first, second = run(config, save=tmp_path / "saved"), train(config)
    assert first.train_info.loss == second.log.loss
    scores = score(config, second.tuned, second.data)
    adapters.save(second.tuned, config, tmp_path / "saved", scores, second.data.class_names)
    loaded, data, _ = adapters.load(tmp_path / "saved")
    batch = next(iter(data.test_batches(8)))
    with torch.no_grad():
        assert torch.equal(loaded.model.eval()(batch), second.tuned.model.eval()(batch))


def test_the_survey_leaves_head_flags_and_order_alone(configure):
    config = configure("snell", snell=FIXED)
    data, backbone = open_task(config)
    tuned = METHODS["snell"].build(backbone, config)
    before = {name: p.detach().clone() for name, p in tuned.model.named_parameters()}
    trains = [p.requires_grad for p in tuned.model.parameters()]
    tuned.model.train()
    tuned.survey([next(data.train_batches(4, seed=0))])
    assert tuned.model.training
    assert trains == [p.requires_grad for p in tuned.model.parameters()]
    assert all(torch.equal(before[name], p) for name, p in tuned.model.named_parameters())
    assert all(p.grad is None for p in tuned.model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsifier": "released"}, "snell.sparsifier must be 'hard' when snell.mask is 'fixed'"),
        ({"budget": "allocated"}, "snell.budget must be 'uniform' when snell.mask is 'fixed'"),
    ],
)
def test_what_a_fixed_mask_cannot_be_combined_with(options, message):
    table = {"snell": {"mask": "fixed", "sparsifier": "hard", **options}}
    with pytest.raises(ValueError, match=message):
        RunConfig.from_dict(table)
