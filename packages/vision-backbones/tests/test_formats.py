"""Every backbone × every published format: logits bit for bit those of an independent reader."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from vision_backbones import list_backbones
from vision_backbones.catalog import IMAGENET_MEAN
from vision_backbones.checkpoints import FORMATS, read
from vision_backbones.checkpoints.formats import format_of
from vision_backbones.made import FORMS, forms_of, small, write_checkpoint
from vision_backbones.made.model import random_model

CASES = [(spec.name, form) for spec in list_backbones() for form in forms_of(spec)]
EACH = pytest.mark.parametrize(("name", "form"), CASES, ids=["-".join(case) for case in CASES])


def independent(spec, form, path):
    """What the libraries' own readers, or nobody's, make of the file."""
    import timm
    from open_clip.factory import load_checkpoint
    from open_clip.model import build_model_from_openai_state_dict

    def of_timm(**options):
        return timm.create_model(spec.source, num_classes=0, **spec.options, **options)

    if form == "google":
        model = of_timm()
        model.load_pretrained(str(path))
        return model
    if form in ("swin", "convnext"):
        return of_timm(pretrained=True, pretrained_cfg_overlay={"file": str(path)})
    if form in ("openai", "openai-state"):
        state = random_state(path, form)
        model = build_model_from_openai_state_dict(state, cast_dtype=torch.float32)
        return model.float()
    if form == "open_clip":
        gelu = {"quick_gelu": False}  # as the config beside the file says
        model = random_model(dataclasses.replace(spec, options={**spec.options, **gelu}), 5)
        load_checkpoint(model, str(path))
        return model
    return random_model(spec, 3)  # the model that was written


def random_state(path, form):
    """OpenAI's weights as torch itself loads them; the tests' own archive may be run."""
    if form == "openai-state":
        return torch.load(path, weights_only=True)
    with pytest.warns(FutureWarning, match="torch.jit.load"):
        state = torch.jit.load(path).state_dict()
    return {name: tensor for name, tensor in state.items() if name != "attn_mask"}


@EACH
def test_logits_are_those_of_an_independent_reader(
    name, form, tmp_path, load, make_batch, wake_head
):
    spec = small(name)
    path = write_checkpoint(name, form, tmp_path, seed=3)
    ours, twin = load(name, path), load(name, "random")
    twin.model = independent(spec, form, path).eval()
    if FORMS[form].format != "openai":  # those are rounded to half precision
        written = random_model(spec, 3).state_dict()
        assert all(torch.equal(t, written[n]) for n, t in ours.model.state_dict().items())
    for backbone in (ours, twin):
        wake_head(backbone)
    batch = make_batch(spec)
    with torch.no_grad():
        assert torch.equal(ours.features(batch), twin.features(batch))
        assert torch.equal(ours(batch), twin(batch))
    assert ours(batch).std() > 0


@EACH
def test_format_is_told_from_the_content(name, form, tmp_path):
    path = write_checkpoint(name, form, tmp_path)
    expected = FORMS[form].format
    if expected:
        assert format_of(read(path)).name == expected


def test_every_format_has_a_file_that_is_tested():
    assert {f.name for f in FORMATS} - {"whole"} == {f.format for f in FORMS.values()} - {""}


@EACH
def test_every_tensor_of_the_file_counts(name, form, tmp_path, load):
    """Nothing is filled by accident: another seed changes every tensor of the model."""
    states = []
    for seed in (1, 2):
        folder = tmp_path / str(seed)
        states.append(load(name, write_checkpoint(name, form, folder, seed)).model.state_dict())
    same = [n for n, t in states[0].items() if t.is_floating_point() and t.equal(states[1][n])]
    assert same == []


@pytest.mark.parametrize(
    ("name", "form"),
    [("swin-b", "timm"), ("clip-vit-b-32", "open_clip"), ("bert-base", "bert")],
)
def test_the_folder_of_a_file_will_do(name, form, tmp_path, load):
    path = write_checkpoint(name, form, tmp_path)
    states = [load(name, place).model.state_dict() for place in (path, tmp_path)]
    assert all(torch.equal(t, states[1][n]) for n, t in states[0].items())


@pytest.mark.parametrize("form", ["mae", "moco-v3", "moco-v3-linear"])
def test_preprocessing_and_licence_are_the_weights_own(form, tmp_path, load):
    own = load("vit-b-16", "random")
    loaded = load("vit-b-16", write_checkpoint("vit-b-16", form, tmp_path))
    assert own.preprocess["mean"] == (0.5, 0.5, 0.5)
    assert loaded.preprocess["mean"] == IMAGENET_MEAN
    assert (own.spec.licence, loaded.spec.licence) == ("Apache-2.0", "CC-BY-NC-4.0")


def test_config_beside_the_weights_of_timm_is_read(tmp_path, load):
    loaded = load("swin-b", write_checkpoint("swin-b", "timm", tmp_path))
    assert loaded.preprocess["mean"] == (0.4, 0.4, 0.4)
    assert loaded.preprocess["std"] == (0.3, 0.3, 0.3)
    assert loaded.spec.licence == "made-up"


def test_openai_weights_run_with_quick_gelu_and_the_assumption_is_said(tmp_path, load, caplog):
    laion = load("clip-vit-b-32", write_checkpoint("clip-vit-b-32", "open_clip", tmp_path / "a"))
    assert type(laion.model.visual.transformer.resblocks[0].mlp.gelu).__name__ == "GELU"
    openai = load("clip-vit-b-32", write_checkpoint("clip-vit-b-32", "openai", tmp_path))
    assert type(openai.model.visual.transformer.resblocks[0].mlp.gelu).__name__ == "QuickGELU"
    assert not caplog.messages
    load("clip-vit-b-32", write_checkpoint("clip-vit-b-32", "plain", tmp_path))
    assert "taken for OpenAI's CLIP with quick GELU" in caplog.text
