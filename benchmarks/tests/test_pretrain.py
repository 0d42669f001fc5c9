"""The recipes of the tiny backbones: reproducible, and what ships is what they made."""

import doctest
import importlib
import json
import pkgutil
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from fewshot_bench import pretrain as package
from fewshot_bench.pretrain import score
from fewshot_bench.pretrain.__main__ import make
from fewshot_bench.pretrain.augment import augment, normalise
from fewshot_bench.pretrain.bert import BertTask
from fewshot_bench.pretrain.card import FIRST_LOSSES, read_card, write_weights
from fewshot_bench.pretrain.corpus import corpus
from fewshot_bench.pretrain.recipe import pretrain
from fewshot_bench.pretrain.tasks import TASKS
from fewshot_data.glyph_characters import compositions, source_characters
from vision_backbones.text import pad
from vision_backbones.tiny import WEIGHTS_FOLDER, tiny_bert

MODULES = [m.name for m in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")]
STEPS = 3


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in one order, as when the weights were made."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def bert() -> BertTask:
    return BertTask(0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawings(count: int) -> torch.Tensor:
    """Some drawings of the corpus, `(count, 1, 40, 40)`."""
    return corpus().drawings(torch.arange(count) * 31)


def nothing(step: int, loss: float) -> None:
    """Look at no step."""


@pytest.mark.parametrize("name", MODULES)
def test_every_example_in_a_docstring_is_right(name):
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testmod(importlib.import_module(name), optionflags=flags).failed == 0


@pytest.mark.parametrize("strength", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("count", [1, 7, 64])
def test_distorted_images_have_the_size_and_the_range_of_images(strength, count):
    images = augment(drawings(count), strength, generator())
    assert images.shape == (count, 1, 32, 32)
    assert 0 <= images.min() < images.max() <= 1
    assert normalise(images).shape == (count, 3, 32, 32)


def test_no_strength_is_the_middle_of_the_drawing():
    images = drawings(64)
    assert torch.allclose(augment(images, 0.0, generator()), images[..., 4:36, 4:36], atol=1e-5)


def test_more_strength_distorts_more():
    images = drawings(64)
    middle = images[..., 4:36, 4:36]
    far = [(augment(images, s, generator()) - middle).abs().mean() for s in (0.1, 0.4, 1.0)]
    assert far == sorted(far)
    assert far[0] > 0.001


def test_distortion_comes_from_the_generator_that_is_passed():
    images, before = drawings(16), torch.get_rng_state()
    first, again, other = (augment(images, 1.0, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_every_strength_draws_as_many_random_numbers():
    used = []
    for strength in (0.0, 0.5, 1.0):
        used.append(generator())
        augment(drawings(16), strength, used[-1])
    assert torch.equal(used[0].get_state(), used[1].get_state())
    assert torch.equal(used[1].get_state(), used[2].get_state())


def test_the_corpus_holds_every_source_character_and_no_composition():
    found = corpus()
    assert found.names == tuple(character.name for character in source_characters())
    assert set(found.names).isdisjoint(character.name for character in compositions())
    assert found.images.shape == (len(found.labels), 1, 40, 40)
    assert (found.images.flatten(1).amax(1) > 128).all()


def test_the_drawings_of_a_character_lie_side_by_side():
    found = corpus()
    assert found.faces.min() >= 1
    assert int(found.faces.sum()) == len(found.labels)
    last = found.first + found.faces - 1
    everyone = torch.arange(len(found.names))
    assert torch.equal(found.labels[found.first], everyone)
    assert torch.equal(found.labels[last], everyone)


def masks(task: BertTask, rounds: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Ids, what is hidden of them, and which tokens belong to the name."""
    for start in torch.linspace(0, len(task.ids) - 256, rounds).long().tolist():
        rows = torch.arange(256) + start
        ids, lengths = task.ids[rows], task.lengths[rows]
        hidden = task._mask(ids, lengths, task.first_word[rows])
        place = torch.arange(ids.shape[1])
        yield ids, hidden, (place > 0) & (place < lengths[:, None] - 1)


def test_special_tokens_are_never_hidden_and_some_token_of_every_name_is(bert):
    for ids, hidden, inside in masks(bert, 40):
        assert not (hidden & ~inside).any()
        assert hidden.any(1).all()
        assert (ids[~inside] <= 3).all()  # [PAD], [UNK], [CLS], [SEP]
        assert (ids[inside] > 3).all()


def test_tokens_and_first_words_are_hidden_as_often_as_the_recipe_says(bert):
    bert.generator = generator(7)
    hidden = bert._mask(bert.ids, bert.lengths, bert.first_word)
    place, last = torch.arange(bert.ids.shape[1]), bert.first_word[:, None]
    first = (place > 0) & (place <= last)
    rest = (place > last) & (place < bert.lengths[:, None] - 1)
    tokens = bert.lengths - 2
    one = 0.2 + 0.8**tokens / tokens  # a fifth, or the lowest draw where no other is low enough
    assert hidden[rest].float().mean() == pytest.approx(
        float((one * rest.sum(1)).sum() / rest.sum()), abs=0.01
    )
    chance = torch.where(bert.first_word == 1, one, 0.2**bert.first_word)
    assert (hidden | ~first).all(1).float().mean() == pytest.approx(
        float((0.5 + 0.5 * chance).mean()), abs=0.01
    )


def test_the_names_of_a_batch_have_like_lengths(bert):
    assert torch.equal(bert.lengths, bert.lengths.sort().values)
    rows = [ids[:length].tolist() for ids, length in zip(bert.ids[:99], bert.lengths, strict=False)]
    assert torch.equal(pad(rows, bert.ids.shape[1]), bert.ids[:99])


@pytest.mark.parametrize("name", TASKS)
def test_the_optimizers_get_every_parameter_and_no_other_twice(name, bert):
    task = bert if name == "bert" else TASKS[name][1](0)
    every = [*task.model.parameters(), *task.heads()]
    assert len({id(p) for p in every}) == len(every)
    assert {id(p) for p in task.matrices()} < {id(p) for p in task.model.parameters()}
    assert len(task.matrices()) >= 3 * 4  # blocks of each tower times matrices of a block


@pytest.mark.parametrize("name", TASKS)
def test_the_first_losses_are_those_on_the_card(name):
    recipe, task = TASKS[name]
    before = torch.get_rng_state()
    losses = pretrain(task(recipe.seed), recipe, on_step=nothing, stop=STEPS)
    assert torch.equal(torch.get_rng_state(), before)
    card = read_card(WEIGHTS_FOLDER / f"{recipe.backbone}.json")
    assert losses == pytest.approx(card["first_losses"][:STEPS], rel=1e-3)
    assert len(set(losses)) == STEPS


@pytest.mark.parametrize("name", TASKS)
def test_the_card_tells_the_recipe_and_that_it_learned(name):
    recipe, _ = TASKS[name]
    card = read_card(WEIGHTS_FOLDER / f"{recipe.backbone}.json")
    assert card["recipe"] == recipe.to_dict()
    assert len(card["first_losses"]) == FIRST_LOSSES
    assert card["last_loss"] < min(card["first_losses"])


@pytest.mark.parametrize("name", TASKS)
def test_pretrained_features_beat_random_ones_on_every_target(name):
    recipe, _ = TASKS[name]
    accuracy = read_card(WEIGHTS_FOLDER / f"{recipe.backbone}.json")["accuracy_percent"]
    assert accuracy["pretrained"].keys() == accuracy["random"].keys()
    assert {key.split()[0] for key in accuracy["random"]} == set(score.TARGETS[recipe.backbone])
    losers = {k: v for k, v in accuracy["pretrained"].items() if v <= accuracy["random"][k]}
    assert losers == {}


@pytest.mark.parametrize("name", TASKS)
def test_the_weights_are_small_and_half_precision(name):
    path = WEIGHTS_FOLDER / f"{TASKS[name][0].backbone}.safetensors"
    assert path.stat().st_size < 3_000_000
    tensors = load_file(path).values()
    assert {tensor.dtype for tensor in tensors} == {torch.float16}
    assert all(tensor.isfinite().all() for tensor in tensors)


@pytest.mark.slow
def test_a_short_run_writes_weights_that_load_and_a_card_that_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(score, "SEEDS", (101,))
    monkeypatch.setattr(score, "SHOTS", (1,))
    recipe = replace(TASKS["bert"][0], steps=3, batch_size=8)
    make("bert", recipe, tmp_path, Console(quiet=True))
    assert {p.name for p in tmp_path.iterdir()} == {"tiny-bert.safetensors", "tiny-bert.json"}
    card = read_card(tmp_path / "tiny-bert.json")
    assert card == json.loads(json.dumps(card))
    assert card["recipe"] == recipe.to_dict()
    assert len(card["first_losses"]) == recipe.steps
    assert card["last_loss"] == pytest.approx(sum(card["first_losses"]) / recipe.steps)
    assert card["threads"] == 1
    assert set(card["accuracy_percent"]) == {"pretrained", "random"}
    kept = load_file(tmp_path / "tiny-bert.safetensors")
    wanted = {key: value.shape for key, value in tiny_bert().state_dict().items()}
    assert {key: value.shape for key, value in kept.items()} == wanted


def test_weights_that_cannot_be_written_leave_no_file(tmp_path, full_disk):
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(b"earlier")
    with full_disk(1000), pytest.raises(OSError, match=r"cannot write .*tiny\.safetensors"):
        write_weights(torch.nn.Linear(100, 100), path)
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.safetensors"]
    assert path.read_bytes() == b"earlier"
