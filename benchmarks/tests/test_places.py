"""Which parameters a configuration lets a method change, and what is refused."""

from collections.abc import Callable

import pytest

from fewshot_bench.config import RunConfig
from fewshot_bench.data_options import DataOptions, PlaceOptions
from fewshot_bench.loop_options import LoopOptions
from fewshot_bench.methods import find_method
from fewshot_bench.pipeline import run
from fewshot_bench.preparation import find_checkpoint
from vision_backbones import load_backbone
from vision_backbones.backbone import Backbone


def load(name: str) -> Backbone:
    return load_backbone(name, class_names=["a", "b"], checkpoint="random")


def sparse(backbone: Backbone, **place: object) -> dict[str, list[str]]:
    """Names of the parameters in each group of SO's optimizer."""
    names = {id(p): n for n, p in backbone.named_parameters()}
    config = RunConfig(method="so", backbone=backbone.spec.name, place=PlaceOptions(**place))
    optimizer = find_method("so")(backbone, config).optimizer
    return {g["name"]: [names[id(p)] for p in g["params"]] for g in optimizer.param_groups}


def adapted(method: str, backbone: Backbone, **place: object) -> set[str]:
    """Names of the layers that got an adapter."""
    config = RunConfig(method=method, backbone=backbone.spec.name, place=PlaceOptions(**place))
    model = find_method(method)(backbone, config).model
    names = (n for n, p in model.named_parameters() if p.requires_grad and ".head." not in n)
    return {n.split(".lora_")[0].split(".snell_")[0] for n in names}


@pytest.mark.parametrize("encoders", ["image", "text"])
@pytest.mark.parametrize("positions", ["top1", "half-up", "all", "0"])
def test_positions_and_encoders_of_so(positions: str, encoders: str) -> None:
    backbone = load("tiny-clip")
    expected = set(backbone.weights(blocks=positions, tower=encoders))
    groups = sparse(backbone, positions=positions, encoders=encoders)
    assert set(groups["backbone"]) == expected
    assert 0 < len(expected) < len(backbone.matrices())


def test_both_encoders_are_the_default() -> None:
    backbone = load("tiny-clip")
    assert set(sparse(backbone)["backbone"]) == set(backbone.matrices())


@pytest.mark.parametrize("method", ["lora", "klora", "snell"])
def test_adapters_have_positions_and_roles(method: str) -> None:
    backbone = load("tiny-clip")
    layers = adapted(method, backbone, positions="top1", encoders="image", roles=("q", "v"))
    assert {name.rpartition(".")[2] for name in layers} == {"q_proj", "v_proj"}
    assert len(layers) == 2


def test_the_groups_of_the_release_on_bert() -> None:
    backbone = load("tiny-bert")
    groups = sparse(backbone, rest=True, embeddings=True)
    owned = dict(backbone.named_parameters())
    assert all(owned[n].ndim == 2 for n in groups["backbone"])
    assert {n for n in groups["backbone"] if n.endswith("word_embeddings.weight")}
    matrices = [n for n in groups["beside"] if owned[n].ndim > 1]
    assert all("pooler" in n for n in matrices)
    together = [n for names in groups.values() for n in names]
    assert sorted(together) == sorted(owned)


def test_a_class_token_is_trained_beside_adapters(configure: Callable[..., RunConfig]) -> None:
    config = configure("snell", place=PlaceOptions(class_token=True), loop=LoopOptions())
    plain = run(configure("snell")).train_info
    more = run(config).train_info
    assert more.trainable_parameters - plain.trainable_parameters == load("tiny-vit").spec.width


def test_vectors_need_not_decay(configure: Callable[..., RunConfig]) -> None:
    config = configure("full", weight_decay=0.1, loop=LoopOptions(decay_vectors=False))
    optimizer = find_method("full")(load("tiny-vit"), config).optimizer
    decays = {p.ndim: set() for g in optimizer.param_groups for p in g["params"]}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            decays[parameter.ndim].add(group["weight_decay"])
    assert decays[1] == {0.0}
    assert decays[2] == {0.1}


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({"positions": "half-way"}, "unknown blocks='half-way'"),
        ({"positions": "top9"}, "asks for 9 of 3 blocks"),
        ({"encoders": "text"}, "tiny-vit has image"),
        ({"roles": ("w",)}, "unknown roles"),
        ({"embeddings": True}, "no embedding tables"),
    ],
)
def test_places_that_do_not_exist(place: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sparse(load("tiny-vit"), **place)


def test_a_missing_class_token(configure: Callable[..., RunConfig]) -> None:
    with pytest.raises(ValueError, match="has no class token"):
        run(configure("so", "tiny-bert", place=PlaceOptions(class_token=True)))


def test_saving_refuses_what_peft_has_no_place_for(
    configure: Callable[..., RunConfig], tmp_path: object
) -> None:
    config = configure("lora", place=PlaceOptions(rest=True))
    with pytest.raises(ValueError, match="holds adapters and the head only"):
        run(config, save=f"{tmp_path}/saved")


def test_absent_weights_say_what_to_get(tmp_path: object) -> None:
    config = RunConfig(backbone="vit-b-16", checkpoint="ViT-B_16.npz", weights=str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=r"--weights .*get https://.*ViT-B_16.npz, and put it there"
    ):
        find_checkpoint(config)


def test_absent_data_say_where_they_belong(tmp_path: object) -> None:
    config = RunConfig(dataset="dtd", root=str(tmp_path), protocol="so", checkpoint="random")
    with pytest.raises(FileNotFoundError, match="dtd"):
        run(config)


def test_own_data_have_no_published_transforms(configure: Callable[..., RunConfig]) -> None:
    with pytest.raises(ValueError, match="names none"):
        run(configure("so", data=DataOptions(transforms="published")))


def test_an_unknown_harness(configure: Callable[..., RunConfig]) -> None:
    with pytest.raises(ValueError, match="did you mean 'clip'"):
        run(configure("so", data=DataOptions(transforms="clop")))
