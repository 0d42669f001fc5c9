"""Positions and roles: which blocks and layers the words stand for, on every backbone."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from vision_backbones import list_backbones
from vision_backbones.made import small
from vision_backbones.select import ROLES, positions, roles_of

NAMES = [spec.name for spec in list_backbones()]
EACH = pytest.mark.parametrize("name", NAMES)
FULL = {"q", "k", "v", "out", "fc1", "fc2"}


@pytest.fixture
def load_small(load_random):
    """A small backbone with random weights."""
    from vision_backbones.made import shrunk

    def load_small(name):
        with shrunk():
            return load_random(name)

    return load_small


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("all", list(range(12))),
        ("top", [11]),
        ("top3", [9, 10, 11]),
        ("bottom2", [0, 1]),
        ("bottom", [0, 1, 2, 3]),
        ("mid", [4, 5, 6, 7]),
        ("up", [8, 9, 10, 11]),
        ("half-up", [6, 7, 8, 9, 10, 11]),
        ("half-bottom", [0, 1, 2, 3, 4, 5]),
        ("0,-1,3", [0, 3, 11]),
    ],
)
def test_positions_of_twelve_blocks(selector, expected):
    assert positions(selector, 12) == expected


@pytest.mark.parametrize("selector", ["", "top0", "top13", "upper", "12", "-13", "1,,2", "3-5"])
def test_positions_that_do_not_exist(selector):
    with pytest.raises(ValueError, match="blocks="):
        positions(selector, 12)


@pytest.mark.parametrize("count", [1, 2, 5, 12, 25])
def test_halves_and_thirds_cover_every_block_once(count):
    every = list(range(count))
    assert positions("half-bottom", count) + positions("half-up", count) == every
    assert [i for word in ("bottom", "mid", "up") for i in positions(word, count)] == every


@EACH
def test_every_linear_of_every_block_has_a_role(name, load_small):
    backbone = load_small(name)
    backbone.split_attention()
    assert set(backbone.layers()) == set(backbone.linears())
    assert set(backbone.weights()) == set(backbone.matrices())
    found = {role for layer in backbone.linears() for role in roles_of(layer)}
    assert found == ({"fc1", "fc2"} if backbone.spec.family == "convnext" else FULL)


@EACH
def test_roles_part_the_layers_once_query_key_and_value_are_three(name, load_small):
    backbone = load_small(name)
    backbone.split_qkv()
    by_role = [set(backbone.layers([role])) for role in ROLES]
    assert sum(map(len, by_role)) == len(set().union(*by_role)) == len(backbone.linears())


@EACH
def test_splitting_changes_no_output_and_joins_again(name, load_small, make_batch, wake_head):
    from vision_backbones.split import join_split_keys

    backbone = load_small(name).double()
    wake_head(backbone)
    before = {n: t.clone() for n, t in backbone.model.state_dict().items()}
    batch = {
        k: v.double() if v.is_floating_point() else v for k, v in make_batch(small(name)).items()
    }
    expected = backbone(batch)
    backbone.split_qkv()
    assert_close(backbone(batch), expected, rtol=0, atol=1e-12)
    joined = join_split_keys(backbone.model.state_dict())
    assert joined.keys() == before.keys()
    assert all(torch.equal(t, joined[n]) for n, t in before.items())


@EACH
def test_towers_are_counted_each_for_itself(name, load_small):
    backbone = load_small(name)
    towers = backbone.towers()
    assert [block for tower in towers.values() for block in tower] == backbone.blocks()
    assert backbone.chosen_blocks("top") == [tower[-1] for tower in towers.values()]
    for tower, blocks in towers.items():
        assert backbone.chosen_blocks("bottom1", tower) == blocks[:1]
        inside = {id(m) for m in blocks[0].modules()}
        layers = backbone.layers(["fc1", "fc2"], "bottom1", tower)
        assert layers
        assert {id(layer) for layer in layers.values()} <= inside


def test_what_does_not_exist_is_said(load_small):
    backbone = load_small("tiny-vit")
    with pytest.raises(ValueError, match="unknown tower='text': tiny-vit has image, or both"):
        backbone.layers(tower="text")
    with pytest.raises(ValueError, match="unknown roles="):
        backbone.layers(["query"])
    with pytest.raises(ValueError, match="unknown roles='q'"):
        backbone.layers("q")
