"""Folders of transformers: every type that is known, loaded, run, and refused when broken."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from vision_backbones import load_backbone
from vision_backbones.catalog import find
from vision_backbones.folder import MODEL_TYPES
from vision_backbones.made import folder_types, shrunk, write_checkpoint, write_folder

EACH = pytest.mark.parametrize("kind", folder_types())


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """One folder of every type."""
    root = tmp_path_factory.mktemp("folders")
    return {kind: write_folder(kind, root / kind, seed=4) for kind in folder_types()}


@pytest.fixture
def copied(written, tmp_path):
    """A folder that a test may break."""
    return lambda kind: shutil.copytree(written[kind], tmp_path / kind)


def load(folder, **options):
    return load_backbone(str(folder), class_names=["a", "b"], **options)


def two_texts(backbone):
    """A batch of two texts of different length, padded on the right."""
    rows = [backbone.tokenizer(t)["input_ids"] for t in ("digit zero", "latin small letter a with")]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": mask}


@EACH
def test_folder_is_a_backbone(kind, written):
    backbone = load(written[kind])
    spec = find(str(written[kind]))
    assert (spec.family, spec.width, spec.blocks) == (backbone.spec.family, 32, 2)
    assert kind in MODEL_TYPES[spec.family]
    assert sum(p.numel() for p in load(written[kind], checkpoint="random").model.parameters()) == (
        spec.parameters
    )
    assert len(backbone.blocks()) == 2
    features = backbone.features(two_texts(backbone))
    assert features.shape == (2, 32)
    assert not torch.allclose(features[0], features[1])


@EACH
def test_weights_are_those_of_the_file(kind, written):
    own = load(written[kind]).model.state_dict()
    stored = load_file(written[kind] / "model.safetensors")
    for name, tensor in own.items():
        matches = [n for n in stored if n == name or n.endswith(f".{name}")]
        assert len(matches) == 1, name
        assert torch.equal(stored[matches[0]], tensor)


@EACH
def test_padding_on_the_right_changes_nothing(kind, written):
    backbone = load(written[kind])
    batch = two_texts(backbone)
    short = {name: t[:1, : int(batch["attention_mask"][0].sum())] for name, t in batch.items()}
    with torch.no_grad():
        assert_close(backbone.features(batch)[:1], backbone.features(short))


@EACH
def test_features_are_read_where_they_should_be(kind, written):
    """The library's own way: its masks, and the hidden states of each text by themselves."""
    backbone = load(written[kind])
    batch = two_texts(backbone)
    lengths = batch["attention_mask"].sum(1).tolist()
    with torch.no_grad():
        hidden = backbone.model(**batch).last_hidden_state
        if kind in MODEL_TYPES["llama"]:
            expected = [hidden[row, length - 1] for row, length in enumerate(lengths)]
        else:  # none of the folders has a pooler
            expected = [hidden[row, :length].mean(0) for row, length in enumerate(lengths)]
        assert_close(backbone.features(batch), torch.stack(expected))


@EACH
def test_gradients_reach_every_matrix(kind, written, wake_head):
    backbone = load(written[kind]).train()
    wake_head(backbone)
    torch.nn.functional.cross_entropy(
        backbone(two_texts(backbone)), torch.tensor([0, 1])
    ).backward()
    assert all(m.grad is not None and m.grad.abs().max() > 0 for m in backbone.matrices().values())


@EACH
def test_missing_and_surplus_weights_are_named(kind, copied):
    folder = copied(kind)
    state = load_file(folder / "model.safetensors")
    lasts = ("layer.1.output.dense.bias", "layer.1.ffn.lin1.bias", "layers.1.mlp.up_proj.weight")
    gone = next(name for name in state if name.endswith(lasts))
    del state[gone]
    save_file(state | {"surplus": torch.ones(1)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        ValueError, match=r"1 missing \(.*\); 1 unexpected \(surplus\); nothing was"
    ):
        load(folder)


def test_weights_of_another_size_are_refused(copied):
    folder = copied("bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 16}))
    with pytest.raises(ValueError, match=r"cannot be read|does not fit its own config"):
        load(folder)


@pytest.mark.parametrize("cut", [100, 5000])
def test_weights_that_are_cut_short_or_absent(cut, copied):
    folder = copied("llama")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:cut])
    with pytest.raises(ValueError, match="cannot be read"):
        load(folder)
    weights.unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        load(folder)


def test_types_that_are_not_known_are_refused(tmp_path, copied):
    with pytest.raises(ValueError, match=r"has no config\.json"):
        load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ValueError, match="holds a 'gpt2', known are bert"):
        load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "no-such-thing"}')
    with pytest.raises(ValueError, match="describes no model that transformers knows"):
        load(tmp_path)


def test_code_in_a_folder_is_never_run(copied):
    folder = copied("bert")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "evil.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text("raise SystemExit('code in a checkpoint was run')")
    with pytest.raises(ValueError, match="describes no model"):
        load(folder)


def test_bert_base_takes_a_folder_of_its_size_only(tmp_path, written):
    with shrunk():
        folder = write_checkpoint("bert-base", "bert-folder", tmp_path)
        loaded = load_backbone("bert-base", class_names=["a"], checkpoint=folder)
        assert loaded.spec.name == "bert-base"
        assert loaded.tokenizer("digit zero")["attention_mask"] == [1, 1, 1, 1]
        with pytest.raises(ValueError, match="it looks like a llama of width 32 with 2 blocks"):
            load_backbone("bert-base", class_names=["a"], checkpoint=written["llama"])
