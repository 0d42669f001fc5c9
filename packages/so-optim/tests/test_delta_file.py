"""A delta's file is small, whole or not there, and nothing else is taken for one."""

import sys

import pytest
import torch

from so_optim.delta import Delta
from so_optim.delta.file import _checksum
from so_optim.delta.part import index_dtype

safetensors = pytest.importorskip("safetensors")
pytest.importorskip("safetensors.torch")


def test_a_file_takes_eight_bytes_an_fp32_entry_and_a_header(rng, tmp_path):
    """48 matrices, as in a ViT-B, with 2 % changed."""
    base = {f"blocks.{n}.w": torch.randn(60, 50, generator=rng) for n in range(48)}
    new = {name: tensor.clone() for name, tensor in base.items()}
    for tensor in new.values():
        tensor.view(-1)[torch.randperm(3000, generator=rng)[:60]] += 1
    delta = Delta.between(base, new)
    delta.save(tmp_path / "d")
    size = (tmp_path / "d").stat().st_size
    header = int.from_bytes((tmp_path / "d").read_bytes()[:8], "little")
    assert delta.describe()["bytes"] == size - 8 - header == 48 * 60 * 8
    assert header < 48 * 400
    assert delta.describe()["density"] == 0.02
    assert repr(delta) == "Delta(changed=2880 of 144000, tensors=48 of 48, bytes=23040)"


@pytest.mark.parametrize(
    ("dtype", "count", "size"),
    [
        (torch.float32, 49, 49 * 8),
        (torch.float32, 51, 400),
        (torch.int8, 19, 19 * 5),
        (torch.int8, 21, 100),
    ],
)
def test_indices_are_left_out_where_that_is_smaller(tmp_path, dtype, count, size):
    base = {"w": torch.zeros(10, 10, dtype=dtype)}
    new = {"w": torch.zeros(10, 10, dtype=dtype)}
    new["w"].view(-1)[:count] = 1
    Delta.between(base, new).save(tmp_path / "d")
    raw = (tmp_path / "d").read_bytes()
    assert len(raw) - 8 - int.from_bytes(raw[:8], "little") == size
    loaded = Delta.load(tmp_path / "d")
    assert loaded.describe()["bytes"] == size
    loaded.apply(base)
    assert torch.equal(base["w"], new["w"])


def test_the_file_is_readable_without_this_package(tmp_path):
    base = {"w": torch.zeros(10, 10)}
    new = {"w": torch.zeros(10, 10), "head": torch.ones(3)}
    new["w"][2, 7] = 1.5
    delta = Delta.between(base, new)
    delta.save(tmp_path / "d")
    with safetensors.safe_open(tmp_path / "d", "pt") as file:
        header = file.metadata()
        stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    assert header["format"] == "so_optim.delta"
    assert (header["version"], header["changed"], header["base"]) == ("1", "4", delta.base)
    assert torch.equal(stored["w.indices"], torch.tensor([27], dtype=torch.int32))
    assert stored["w.xor"].view(torch.float32).tolist() == [1.5]  # the base is 0 there
    assert torch.equal(stored["head.new"], torch.ones(3))


def test_positions_grow_to_64_bits_where_32_do_not_reach():
    assert index_dtype(2**31) == torch.int32
    assert index_dtype(2**31 + 1) == torch.int64


def saved(tmp_path):
    """A small delta in a file."""
    base = {"w": torch.zeros(9, 10), "b": torch.zeros(4)}
    new = {"w": torch.eye(9, 10), "b": torch.ones(4), "head": torch.ones(2)}
    Delta.between(base, new).save(tmp_path / "d.safetensors")
    return tmp_path / "d.safetensors"


def test_every_flipped_bit_is_noticed(tmp_path, rng):
    path = saved(tmp_path)
    good = path.read_bytes()
    wrong = torch.randint(8, (len(good),), generator=rng).tolist()
    for place, bit in enumerate(wrong):
        damaged = bytearray(good)
        damaged[place] ^= 1 << bit
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"d\.safetensors"):
            Delta.load(path)


@pytest.mark.parametrize("length", [0, 5, 8, 100, -1])
def test_a_truncated_file_is_refused(tmp_path, length):
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match="damaged"):
        Delta.load(path)


def test_foreign_files_are_refused(tmp_path):
    torch.save({"w": torch.zeros(3)}, tmp_path / "pickle")
    safetensors.torch.save_file({"w": torch.zeros(3)}, tmp_path / "plain")
    with pytest.raises(ValueError, match="nothing is unpickled"):
        Delta.load(tmp_path / "pickle")
    with pytest.raises(ValueError, match="nothing is unpickled"):
        Delta.between(tmp_path / "pickle", {"w": torch.zeros(3)})
    with pytest.raises(ValueError, match="not a delta"):
        Delta.load(tmp_path / "plain")
    with pytest.raises(FileNotFoundError, match="absent"):
        Delta.load(tmp_path / "absent")


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("w.indices", torch.arange(9, dtype=torch.int32) + 82),  # reaches past the end
        ("w.indices", torch.arange(9, dtype=torch.int32) - 1),
        ("w.indices", torch.zeros(9, dtype=torch.int32)),
        ("w.indices", torch.arange(9)),
        ("w.indices", torch.arange(8, dtype=torch.int32)),
        ("w.xor", torch.arange(9, dtype=torch.int16)),
        ("b.xor", torch.arange(3, dtype=torch.int32)),
        ("head.new", torch.zeros(3)),
        ("head.new", torch.zeros(2, dtype=torch.float64)),
    ],
)
def test_a_file_that_would_write_astray_is_refused(tmp_path, key, wrong):
    """Even if its checksum is right."""
    path = saved(tmp_path)
    with safetensors.safe_open(path, "pt") as file:
        header = file.metadata()
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    del header["checksum"]
    tensors[key] = wrong
    header["checksum"] = _checksum(header, tensors)
    safetensors.torch.save_file(tensors, path, header)
    with pytest.raises(ValueError, match=key.split(".")[0]):
        Delta.load(path)


def test_a_later_version_is_refused(tmp_path):
    safetensors.torch.save_file({}, tmp_path / "d", {"format": "so_optim.delta", "version": "2"})
    with pytest.raises(ValueError, match="version '2'"):
        Delta.load(tmp_path / "d")


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    (tmp_path / "taken" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="taken"):
        Delta.between({"w": torch.zeros(3)}, {"w": torch.ones(3)}).save(tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_saving_replaces_a_file_that_is_in_use(tmp_path):
    path = saved(tmp_path)
    first = Delta.load(path)
    Delta.between({"w": torch.zeros(3)}, {"w": torch.ones(3)}).save(path)
    assert first.describe()["tensors"]["head"]["new"]
    assert list(Delta.load(path).describe()["tensors"]) == ["w"]


def test_the_missing_library_is_named(tmp_path, monkeypatch):
    path = saved(tmp_path)
    delta = Delta.load(path)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.delitem(sys.modules, "safetensors.torch")
    for needs_it in (delta.save, Delta.load, lambda base: Delta.between(base, {})):
        with pytest.raises(ImportError, match=r"pip install so-optim\[delta\]"):
            needs_it(path)


def test_the_base_may_be_a_file(tmp_path, rng):
    base = {"w": torch.randn(30, 20, generator=rng), "b": torch.zeros(20)}
    safetensors.torch.save_file(base, tmp_path / "base.safetensors")
    new = {**base, "w": base["w"] * (torch.rand(30, 20, generator=rng) < 0.9)}
    delta = Delta.between(str(tmp_path / "base.safetensors"), new)
    assert delta.base == Delta.between(base, new).base
    delta.revert(new)
    assert torch.equal(new["w"], base["w"])
