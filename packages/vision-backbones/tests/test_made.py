"""The made files have the names of the published ones, written down here from those."""

from __future__ import annotations

import pytest

from vision_backbones import list_backbones, load_backbone
from vision_backbones.catalog import CATALOG
from vision_backbones.checkpoints import read
from vision_backbones.families import looks_of_spec
from vision_backbones.made import FORMS, forms_of, shrunk, small, write_checkpoint

ATTENTION = "Transformer/encoderblock_0/MultiHeadDotProductAttention_1"
PUBLISHED = {
    ("vit-b-16", "google"): [
        "cls", "embedding/kernel", "embedding/bias", "head/kernel", "head/bias",
        "pre_logits/kernel", "Transformer/posembed_input/pos_embedding",
        "Transformer/encoder_norm/scale", "Transformer/encoderblock_1/LayerNorm_0/scale",
        "Transformer/encoderblock_0/LayerNorm_2/bias", f"{ATTENTION}/query/kernel",
        f"{ATTENTION}/out/bias", "Transformer/encoderblock_0/MlpBlock_3/Dense_1/kernel",
    ],
    ("vit-b-16", "mae"): ["cls_token", "pos_embed", "patch_embed.proj.weight", "norm.bias",
        "blocks.0.attn.qkv.weight", "blocks.0.attn.proj.bias", "blocks.1.mlp.fc2.weight"],
    ("vit-b-16", "mae-full"): ["mask_token", "decoder_pos_embed", "decoder_embed.weight"],
    ("vit-b-16", "moco-v3"): ["module.base_encoder.cls_token", "module.base_encoder.norm.weight",
        "module.momentum_encoder.blocks.0.attn.qkv.weight", "module.base_encoder.head.0.weight",
        "module.base_encoder.head.1.running_mean", "module.predictor.0.weight"],
    ("vit-b-16", "moco-v3-linear"): ["module.cls_token", "module.head.weight",
        "module.blocks.0.attn.qkv.weight"],
    ("swin-b", "swin"): ["patch_embed.norm.weight", "layers.0.downsample.reduction.weight",
        "layers.2.downsample.norm.bias", "layers.0.blocks.1.attn_mask", "norm.weight",
        "layers.0.blocks.0.attn.relative_position_bias_table", "head.weight",
        "layers.0.blocks.0.attn.relative_position_index", "layers.3.blocks.0.mlp.fc1.bias"],
    ("convnext-b", "convnext"): ["downsample_layers.0.0.weight", "downsample_layers.0.1.bias",
        "downsample_layers.3.1.weight", "stages.0.0.dwconv.weight", "stages.2.1.gamma",
        "stages.0.0.norm.weight", "stages.0.0.pwconv1.weight", "norm.weight", "head.bias"],
    ("clip-vit-b-32", "openai"): ["input_resolution", "context_length", "vocab_size",
        "visual.class_embedding", "visual.positional_embedding", "visual.proj",
        "visual.conv1.weight", "visual.transformer.resblocks.0.attn.in_proj_weight",
        "transformer.resblocks.1.mlp.c_fc.bias", "token_embedding.weight", "ln_final.weight",
        "text_projection", "logit_scale", "positional_embedding"],
    ("clip-vit-b-32", "open_clip-training"): ["module.visual.conv1.weight", "module.logit_scale"],
    ("bert-base", "bert"): ["bert.embeddings.LayerNorm.gamma", "cls.predictions.bias",
        "bert.encoder.layer.0.attention.self.query.weight", "bert.pooler.dense.bias"],
}  # fmt: skip
ABSENT = {"swin-b": "layers.3.downsample.reduction.weight", "convnext-b": "head.norm.weight"}


@pytest.mark.parametrize(("name", "form"), PUBLISHED)
def test_names_are_the_published_ones(name, form, tmp_path):
    state = read(write_checkpoint(name, form, tmp_path)).state
    assert [known for known in PUBLISHED[name, form] if known not in state] == []
    assert ABSENT.get(name) not in state


def test_layouts_are_the_published_ones(tmp_path):
    google = read(write_checkpoint("vit-b-16", "google", tmp_path)).state
    assert google["embedding/kernel"].shape == (16, 16, 3, 24)
    assert google[f"{ATTENTION}/query/kernel"].shape == (24, 3, 8)
    assert google[f"{ATTENTION}/out/kernel"].shape == (3, 8, 24)
    assert google[f"{ATTENTION}/key/bias"].shape == (3, 8)
    openai = read(write_checkpoint("clip-vit-b-32", "openai", tmp_path))
    dtypes = {name: str(openai.state[name].dtype) for name in ("visual.proj", "ln_final.weight")}
    assert dtypes == {"visual.proj": "torch.float16", "ln_final.weight": "torch.float32"}
    assert openai.container == "torchscript"


def test_small_models_differ_in_size_from_each_other_and_from_the_full_ones():
    specs = [small(spec.name) for spec in list_backbones()]
    seen = [looks_of_spec(spec) for spec in [*specs, *list_backbones()[3:]]]
    assert len(set(seen)) == len(seen)


def test_shrinking_ends_also_after_an_error():
    before = dict(CATALOG)
    with pytest.raises(ValueError, match=r"class_names must .* got \[40\]"), shrunk():
        load_backbone("vit-h-14", class_names=[CATALOG["vit-h-14"].width])
    assert before == CATALOG


def test_every_backbone_has_a_form_and_an_unknown_one_is_refused(tmp_path):
    assert all(forms_of(spec) for spec in list_backbones())
    assert {form for spec in list_backbones() for form in forms_of(spec)} == set(FORMS)
    with pytest.raises(ValueError, match="bert-base has no form='google': choose one of bert"):
        write_checkpoint("bert-base", "google", tmp_path)
