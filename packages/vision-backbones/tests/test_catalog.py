"""The catalog's facts, each compared with the model itself (built without memory)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from vision_backbones import list_backbones, load_backbone
from vision_backbones.size import count_flops

SPECS = pytest.mark.parametrize("spec", list_backbones(), ids=lambda spec: spec.name)


@SPECS
def test_facts_are_those_of_the_model(spec, load_random, make_batch):
    with torch.device("meta"):
        backbone = load_random(spec.name)
    assert sum(p.numel() for p in backbone.model.parameters()) == spec.parameters
    assert len(backbone.blocks()) == spec.blocks
    with torch.no_grad():
        features = backbone.to("meta").features(
            {k: v.to("meta") for k, v in make_batch(spec, 2).items()}
        )
    assert features.shape == (2, spec.width)
    assert count_flops(spec) == spec.flops


def test_full_size_parameter_counts_are_the_published_ones():
    full_size = [spec for spec in list_backbones() if not spec.bundled]
    millions = {spec.name: round(spec.parameters / 1e6, 3) for spec in full_size}
    assert millions == {
        "vit-b-16": 85.799,
        "vit-l-16": 303.302,
        "vit-h-14": 630.765,
        "swin-b": 86.743,
        "convnext-b": 87.566,
        "clip-vit-b-32": 151.277,
        "clip-vit-b-16": 149.621,
        "clip-vit-l-14": 427.617,
        "bert-base": 109.482,
    }


@SPECS
def test_preprocessing_agrees_with_the_library(spec):
    if spec.family in ("vit", "swin", "convnext") and not spec.bundled:
        import timm

        with torch.device("meta"):
            data = timm.data.resolve_data_config(model=timm.create_model(spec.source))
        assert (spec.mean, spec.std) == (data["mean"], data["std"])
        assert spec.input_size == data["input_size"][-1]
        assert spec.interpolation == data["interpolation"]
    elif spec.family == "clip" and not spec.bundled:
        import open_clip

        data = open_clip.get_pretrained_cfg(*spec.source.split("/"))
        assert (spec.mean, spec.std) == (tuple(data["mean"]), tuple(data["std"]))
    elif spec.modality == "text":
        assert spec.mean == spec.std == ()


def test_the_table_in_the_docs_is_the_catalog():
    page = Path(__file__).parents[3] / "docs/steps/backbones.md"
    if not page.is_file():
        pytest.skip("the package stands alone, without the documentation")
    rows = [
        f"| `{spec.name}` | {spec.title} | {spec.input_size} | {spec.width} | {spec.blocks} | "
        f"{spec.parameters / 1e6:.2f} M | {spec.licence} |"
        for spec in list_backbones()
    ]
    assert "\n".join(rows) in page.read_text(encoding="utf-8")


def test_names_are_unique_and_records_are_frozen():
    specs = list_backbones()
    assert len({spec.name for spec in specs}) == len(specs)
    with pytest.raises(dataclasses.FrozenInstanceError):
        specs[0].name = "other"


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("tiny-vitt", "tiny-vit"), ("vit-b16", "vit-b-16"), ("bert-bass", "bert-base")],
)
def test_unknown_name_offers_the_closest(wrong, right):
    with pytest.raises(ValueError, match=rf"unknown backbone '{wrong}': did you mean '{right}'\?"):
        load_backbone(wrong, class_names=["a"])


@pytest.mark.parametrize(
    ("name", "meant"),
    [("vit", "vit-b-16 or vit-l-16 or vit-h-14"), ("clip-vit-b", "clip-vit-b-32 or clip-vit-b-16")],
)
def test_ambiguous_name_offers_all_that_may_be_meant(name, meant):
    with pytest.raises(ValueError, match=f"ambiguous backbone '{name}': it may be {meant}"):
        load_backbone(name, class_names=["a"])


def test_a_folder_that_does_not_exist_is_an_unknown_name():
    with pytest.raises(ValueError, match=r"unknown backbone './bert': .* a folder of transformers"):
        load_backbone("./bert", class_names=["a"])


def test_full_size_flops_are_the_published_ones():
    giga = {spec.name: round(spec.flops / 2e9, 1) for spec in list_backbones() if not spec.bundled}
    published = {"vit-b-16": 17.6, "vit-l-16": 61.6, "swin-b": 15.4, "convnext-b": 15.4}
    assert {name: giga[name] for name in published} == published


def test_unknown_name_far_from_all_lists_them():
    with pytest.raises(ValueError, match="unknown backbone 'resnet': known: tiny-vit, tiny-clip"):
        load_backbone("resnet", class_names=["a"])
