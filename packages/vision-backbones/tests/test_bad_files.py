"""Files that do not fit, in every format: a clear error, and nothing is loaded."""

from __future__ import annotations

import argparse
import pickle
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vision_backbones import list_backbones
from vision_backbones.made import FORMS, forms_of, small, write_checkpoint

# One backbone for each format is enough: which one does not matter to what is wrong with a file.
CASES = list({
    form: (spec.name, form)
    for spec in list_backbones()
    for form in forms_of(spec)
    if not spec.bundled and form not in ("bert-folder", "openai")
}.values())  # fmt: skip
EACH = pytest.mark.parametrize(("name", "form"), CASES, ids=[form for _, form in CASES])


def rewrite(path, change):
    """Change the tensors of a file, in its own container and under its own wrapper."""
    if path.suffix == ".npz":
        state = {name: torch.from_numpy(array) for name, array in np.load(path).items()}
        change(state)
        np.savez(path, **{name: tensor.numpy() for name, tensor in state.items()})
    elif path.suffix == ".safetensors":
        state = load_file(path)
        change(state)
        save_file(state, path)
    else:
        content = torch.load(path, weights_only=True)
        change(content.get("state_dict", content.get("model", content)))
        torch.save(content, path)
    return path


def own_name(state):
    """The name of a bias in a block, by whichever name the format gives it."""
    endings = (
        "mlp.fc1.bias",
        "Dense_0/bias",
        "pwconv1.bias",
        "c_fc.bias",
        "intermediate.dense.bias",
    )
    return next(n for n in state if n.endswith(endings) and "momentum" not in n)


@EACH
def test_missing_tensor(name, form, tmp_path, load):
    path = rewrite(write_checkpoint(name, form, tmp_path), lambda s: s.pop(own_name(s)))
    with pytest.raises(ValueError, match=rf"does not fit {name}: 1 missing \(.*bias\); nothing"):
        load(name, path)


@EACH
def test_surplus_tensor(name, form, tmp_path, load):
    def change(state):
        state[own_name(state).replace("bias", "surplus")] = torch.ones(2, 2)

    path = rewrite(write_checkpoint(name, form, tmp_path), change)
    with pytest.raises(ValueError, match=r"1 unexpected \(.*surplus\); nothing was loaded"):
        load(name, path)


@EACH
def test_tensor_of_another_shape(name, form, tmp_path, load):
    path = rewrite(
        write_checkpoint(name, form, tmp_path), lambda s: s.update({own_name(s): torch.ones(3)})
    )
    with pytest.raises(ValueError, match=r"1 of another shape \(.*bias \(3,\) instead of \("):
        load(name, path)


@EACH
@pytest.mark.parametrize("share", [0.3, 0.97])
def test_file_that_is_cut_short(name, form, share, tmp_path, load):
    path = write_checkpoint(name, form, tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"is not a ((whole|plain|safeten\w+) )?file"):
        load(name, path)


OTHERS = [
    (name, spec.name, form)
    for name, form in CASES
    for spec in list_backbones()
    if spec.name != name and form in forms_of(spec) and form != "plain"
]


@pytest.mark.parametrize(("name", "other", "form"), OTHERS)
def test_file_of_another_size_says_which(name, other, form, tmp_path, load):
    path = write_checkpoint(other, form, tmp_path)
    with pytest.raises(
        ValueError, match=rf"does not fit {name}: .* It looks like .*: use {other};"
    ):
        load(name, path)


@EACH
def test_file_of_another_family_says_which(name, form, tmp_path, load):
    other = "vit-l-16" if small(name).family != "vit" else "swin-b"
    path = write_checkpoint(name, form, tmp_path)
    with pytest.raises(ValueError, match=rf"does not fit {other}: .*It looks like .* use {name}; "):
        load(other, path)


def test_resnet_and_adapter_are_named(tmp_path, load):
    for key, expected in {
        "visual.layer1.0.conv1.weight": "It looks like a ResNet of width 4",
        "base_model.model.blocks.0.attn.qkv.lora_A.weight": "a PEFT adapter: load it with Peft",
        "something.weight": "It looks like no model that is known here",
    }.items():
        save_file({key: torch.ones(4, 4)}, tmp_path / "other.safetensors")
        with pytest.raises(ValueError, match=expected):
            load("clip-vit-b-16", tmp_path / "other.safetensors")


TABLE = "layers.0.blocks.0.attn.relative_position_bias_table"
RESIZABLE = [
    ("vit-b-16", "google", "Transformer/posembed_input/pos_embedding", (1, 17, 24)),
    ("vit-b-16", "mae", "pos_embed", (1, 17, 24)),
    ("clip-vit-b-16", "openai-state", "visual.positional_embedding", (17, 64)),
    ("swin-b", "swin", TABLE, (9, 1)),
]


@pytest.mark.parametrize(("name", "form", "key", "shape"), RESIZABLE)
def test_positions_are_resized_when_asked_and_it_is_said(
    name, form, key, shape, tmp_path, load, caplog, make_batch
):
    path = rewrite(
        write_checkpoint(name, form, tmp_path), lambda s: s.update({key: torch.full(shape, 0.5)})
    )
    with pytest.raises(ValueError, match="resize=True interpolates"):
        load(name, path)
    backbone = load(name, path, resize=True)
    assert "is interpolated from" in caplog.text
    resized = backbone.model.state_dict()["pos_embed" if "/" in key else key]
    torch.testing.assert_close(resized, torch.full_like(resized, 0.5))
    assert backbone(make_batch(backbone.spec)).isfinite().all()


def test_positions_of_the_right_size_are_left_alone(tmp_path, load, caplog):
    path = write_checkpoint("vit-b-16", "google", tmp_path)
    states = [load("vit-b-16", path, resize=resize).model.state_dict() for resize in (True, False)]
    assert all(torch.equal(t, states[1][n]) for n, t in states[0].items())
    assert not caplog.messages


class Payload:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('code in a checkpoint was run')",))


def with_argparse(path):
    torch.save({"model": {}, "args": argparse.Namespace(lr=1)}, path)


def with_code(path):
    torch.save({"model": {"a": Payload()}}, path)


def bare_pickle(path):
    path.write_bytes(pickle.dumps(Payload()))


@pytest.mark.parametrize(
    ("write", "needs"),
    [(with_argparse, "argparse.Namespace"), (with_code, "builtins.exec"), (bare_pickle, "")],
)
def test_a_pickle_that_needs_more_is_refused_with_a_way_to_convert_it(write, needs, tmp_path, load):
    write(tmp_path / "trained.pth")
    with pytest.raises(ValueError, match="code in files is never run") as error:
        load("vit-b-16", tmp_path / "trained.pth")
    assert needs in str(error.value)
    assert "weights_only=False" in str(error.value)


def test_the_way_to_convert_a_pickle_works(tmp_path, load, monkeypatch):
    path = write_checkpoint("vit-b-16", "mae", tmp_path)
    content = torch.load(path, weights_only=True) | {"args": argparse.Namespace(lr=1)}
    torch.save(content, path)
    with pytest.raises(ValueError, match="convert it once") as error:
        load("vit-b-16", path)
    monkeypatch.chdir(tmp_path)
    exec(str(error.value).split("`")[1])
    assert load("vit-b-16", path.with_suffix(".safetensors")).blocks()


def test_arrays_of_objects_are_not_unpickled(tmp_path, load):
    np.savez(tmp_path / "evil.npz", a=np.array([Payload()], dtype=object))
    with pytest.raises(ValueError, match="objects in files are never unpickled"):
        load("vit-b-16", tmp_path / "evil.npz")


def test_the_program_of_an_archive_is_never_run(tmp_path, load):
    """An archive whose pickle asks for code is refused; one whose program is broken is read."""
    path = write_checkpoint("clip-vit-b-32", "openai", tmp_path)
    for name, data in (("code", None), ("data.pkl", pickle.dumps(Payload(), protocol=2))):
        changed = tmp_path / f"{name}.pt"
        with zipfile.ZipFile(path) as source, zipfile.ZipFile(changed, "w") as target:
            for entry in source.namelist():
                is_code = entry.endswith(".py")
                content = b"import os; os.abort()" if is_code else source.read(entry)
                replaced = data is not None and entry.endswith("/data.pkl")
                target.writestr(entry, data if replaced else content)
        if data is None:
            assert load("clip-vit-b-32", changed).zero_shot
        else:
            with pytest.raises(ValueError, match="its program is never run"):
                load("clip-vit-b-32", changed)


def test_every_form_is_broken_in_some_way():
    assert {form for _, form in CASES} | {"bert-folder", "openai"} == set(FORMS)
