"""Checkpoints: round trips are bitwise, and whatever does not fit changes nothing."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from vision_backbones import list_backbones, load_backbone
from vision_backbones.catalog import find
from vision_backbones.checkpoints import load_into

TINY = [spec.name for spec in list_backbones() if spec.bundled]


@pytest.fixture
def load(classes, templates):
    """Load a backbone from a file."""

    def load(name, checkpoint, class_names=classes):
        return load_backbone(
            name, class_names=class_names, templates=templates, checkpoint=checkpoint
        )

    return load


def save(state, path):
    tensors = {name: tensor.contiguous() for name, tensor in state.items()}
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)
    return path


@pytest.fixture
def logits(make_batch):
    """Logits of one fixed batch."""

    @torch.no_grad()
    def logits(backbone):
        return backbone(make_batch(backbone.spec))

    return logits


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".bin"])
def test_library_weights_come_back(tiny, tmp_path, suffix, load, logits):
    path = save(tiny.model.state_dict(), tmp_path / f"weights{suffix}")
    loaded = load(tiny.spec.name, path)
    own = tiny.model.state_dict()
    assert all(torch.equal(t, own[name]) for name, t in loaded.model.state_dict().items())
    assert loaded.checkpoint == path
    assert torch.equal(logits(loaded), logits(tiny))


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("split", [None, "split_attention", "split_qkv"])
def test_whole_backbones_come_back_with_their_head(
    tiny, tmp_path, split, linear, wake_head, load, logits
):
    if linear:
        tiny.use_linear_head()
    wake_head(tiny)
    before = logits(tiny)
    if split:
        getattr(tiny, split)()
    loaded = load(tiny.spec.name, save(tiny.state_dict(), tmp_path / "whole.safetensors"))
    assert torch.equal(logits(loaded), before)
    assert loaded.zero_shot == tiny.zero_shot


def test_half_precision_files_fill_single_precision_models(tiny, tmp_path, load):
    half = {name: tensor.half() for name, tensor in tiny.model.state_dict().items()}
    loaded = load(tiny.spec.name, save(half, tmp_path / "half.safetensors"))
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert all(torch.equal(t, half[n].float()) for n, t in loaded.model.state_dict().items())


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_a_wrapping_dictionary_is_taken_off(tmp_path, key, load_random, load, logits):
    vit = load_random("tiny-vit")
    torch.save({key: vit.model.state_dict(), "epoch": 3}, tmp_path / "wrapped.pt")
    assert torch.equal(logits(load("tiny-vit", tmp_path / "wrapped.pt")), logits(vit))


def test_published_files_lose_the_heads_of_their_pretraining(tmp_path, load_random, load):
    vit, bert = load_random("tiny-vit").model, load_random("tiny-bert").model
    classifier = {"head.weight": torch.ones(7, 96), "head.bias": torch.ones(7)}
    load("tiny-vit", save(vit.state_dict() | classifier, tmp_path / "vit.safetensors"))
    old = {
        f"bert.{name}".replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in bert.state_dict().items()
    }
    old["cls.predictions.bias"] = torch.ones(1536)
    loaded = load("tiny-bert", save(old, tmp_path / "bert.safetensors"))
    assert all(torch.equal(t, bert.state_dict()[n]) for n, t in loaded.model.state_dict().items())


@pytest.mark.parametrize("other", TINY)
def test_another_architecture_is_refused_by_name(tiny_name, other, tmp_path, load_random, load):
    if tiny_name == other:
        other = "vit-b-16"
    path = save(load_random(other).model.state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(
        ValueError, match=rf"does not fit {tiny_name}: \d+ missing \(.*; \d+ unexpected"
    ):
        load(tiny_name, path)


def test_missing_unexpected_and_misshapen_are_all_named(tmp_path, load_random, load):
    state = load_random("tiny-vit").model.state_dict()
    del state["cls_token"]
    state["extra.weight"] = torch.ones(1)
    state["norm.weight" if "norm.weight" in state else "fc_norm.weight"] = torch.ones(5)
    with pytest.raises(ValueError, match="nothing was loaded") as error:
        load("tiny-vit", save(state, tmp_path / "broken.safetensors"))
    message = str(error.value)
    assert "1 missing (cls_token)" in message
    assert "1 unexpected (extra.weight)" in message
    assert "norm.weight (5,) instead of (96,)" in message


def test_one_missing_tensor_is_enough(tiny, tmp_path, load):
    state = tiny.model.state_dict()
    name, _ = state.popitem()
    with pytest.raises(ValueError, match=rf"1 missing \({name}\)"):
        load(tiny.spec.name, save(state, tmp_path / "part.safetensors"))


def test_head_for_another_number_of_classes_is_refused(tiny, tmp_path, load):
    tiny.use_linear_head()
    path = save(tiny.state_dict(), tmp_path / "three.safetensors")
    with pytest.raises(ValueError, match=r"head.weight \(3, 96\) instead of \(2, 96\)"):
        load(tiny.spec.name, path, class_names=("a", "b"))


def test_a_refused_file_changes_nothing(tiny, tmp_path, load_random):
    state = load_random(tiny.spec.name, seed=1).state_dict() | {"head.weight": torch.ones(9, 9)}
    path = save(state, tmp_path / "other.safetensors")
    before = {name: tensor.clone() for name, tensor in tiny.state_dict().items()}
    with pytest.raises(ValueError, match="nothing was loaded"):
        load_into(tiny, path)
    assert before.keys() == tiny.state_dict().keys()
    assert all(torch.equal(t, before[name]) for name, t in tiny.state_dict().items())


def test_missing_file(tmp_path, load):
    with pytest.raises(FileNotFoundError, match=r"absent.safetensors' does not exist: check"):
        load("tiny-vit", tmp_path / "absent.safetensors")


def test_folder(tmp_path, load):
    with pytest.raises(ValueError, match=r"is a folder: give the .safetensors file inside"):
        load("tiny-vit", tmp_path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint", bytes(range(256)) * 20])
def test_files_that_are_no_checkpoints(tmp_path, suffix, content, load):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not a"):
        load("tiny-vit", path)


def test_truncated_file(tmp_path, load_random, load):
    path = save(load_random("tiny-vit").model.state_dict(), tmp_path / "cut.safetensors")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"is not (a safetensors file|a file of weights)"):
        load("tiny-vit", path)


def test_torch_files_of_the_old_kind_are_read(tiny, tmp_path, load, logits):
    path = tmp_path / "old.pth.tar"
    torch.save({"model": tiny.model.state_dict()}, path, _use_new_zipfile_serialization=False)
    assert torch.equal(logits(load(tiny.spec.name, path)), logits(tiny))


def test_the_suffix_decides_nothing(tiny, tmp_path, load, logits):
    path = save(tiny.model.state_dict(), tmp_path / "weights.safetensors")
    renamed = path.rename(tmp_path / "weights.ckpt.1")
    assert torch.equal(logits(load(tiny.spec.name, renamed)), logits(tiny))


class Payload:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('code in a checkpoint was run')",))


@pytest.mark.parametrize("writer", [torch.save, lambda x, path: path.write_bytes(pickle.dumps(x))])
def test_code_in_a_file_is_never_run(tmp_path, writer, load):
    writer({"state_dict": Payload()}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match="code in files is never run"):
        load("tiny-vit", tmp_path / "evil.pt")


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, torch.ones(2)])
def test_torch_files_without_a_state_dict(tmp_path, content, load):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="holds no state_dict"):
        load("tiny-vit", tmp_path / "other.pt")


@pytest.mark.parametrize("name", ["vit-b-16", "clip-vit-b-32", "bert-base"])
def test_weights_that_cannot_be_downloaded_say_what_to_get(name, load):
    with pytest.raises(ValueError, match=r"could not be downloaded .*checkpoint=") as error:
        load(name, None)
    assert find(name).source.partition("/")[0] in str(error.value)


def test_vocabulary_beside_the_checkpoint_is_used(tmp_path):
    from vision_backbones.bert import BertBackbone
    from vision_backbones.tiny import TOKENIZER_FILE

    with torch.device("meta"):
        bert = load_backbone("bert-base", class_names=["a"], checkpoint="random")
    assert isinstance(bert, BertBackbone)
    with pytest.raises(ValueError, match=r"put tokenizer.json .* beside the file"):
        bert.tokenizer("digit zero")
    (tmp_path / "tokenizer.json").write_bytes(TOKENIZER_FILE.read_bytes())
    bert.checkpoint = tmp_path / "model.safetensors"
    assert len(bert.tokenizer("digit zero")["input_ids"]) == 4


def test_importing_costs_torch_only_and_gives_no_warning():
    heavy = ["timm", "open_clip", "transformers", "torchvision", "safetensors", "tokenizers"]
    program = (
        "import sys, vision_backbones as v; v.list_backbones(); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""
