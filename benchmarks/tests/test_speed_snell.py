from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from torch import nn

from fewshot_bench.speed.counting import count_operations
from fewshot_bench.speed.one_layer import make_layer
from fewshot_bench.speed.pieces import FOLD, PIECES, UPDATE, measure_pieces
from fewshot_bench.speed.simulate import measure_memory
from fewshot_bench.speed.snell_models import has_kernels, plain_torch
from fewshot_bench.speed.snell_release import add_released, load_adapters
from fewshot_bench.speed.threshold import OURS, measure_threshold
from fewshot_bench.speed.timing import Setting, prepare
from fewshot_bench.speed.transient import measure_transient
from fewshot_bench.speed.variants import VARIANTS, Choice, choices, loss_of
from fewshot_bench.speed.workload import make_batch, make_workload

# Not the release, but a file like it: names that are not there, and modules that call what the
# published ones call.
LIKE_THE_RELEASE = """
import there_is_no_such_module
from timm.models.layers import nothing_of_this_name


class KLoRA(nn.Module):
    def __init__(self, in_features, out_features, q_dim):
        super().__init__()
        self.a = nn.Parameter(torch.rand(2, in_features, q_dim // 2) / math.sqrt(in_features))
        self.b = nn.Parameter(torch.rand(2, out_features, q_dim // 2) / math.sqrt(in_features))

    def pathIntegrals(self):
        one, two = torch.cdist(self.a, self.b)
        return 0.1 * (one - two)

    def sparsify(self, w):
        return w

    def matrix(self):
        return self.sparsify(self.pathIntegrals())

    def forward(self, x):
        return cp.checkpoint(lambda x: F.linear(x, self.matrix().T), x)


class SNELL(KLoRA):
    def __init__(self, in_features, out_features, q_dim, init_thres):
        super().__init__(in_features, out_features, q_dim)
        self.share = init_thres

    def sparsify(self, w):
        magnitude = w.detach().abs()
        threshold = float(torch.quantile(magnitude.flatten(), self.share))
        w = w * F.threshold(magnitude, threshold, 0)
        self.statistic = len(torch.nonzero(w.detach(), as_tuple=True))
        return w


nothing_of_this_name(there_is_no_such_module)
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clone")
    (folder / "model").mkdir()
    (folder / "model" / "vision_transformer_timm.py").write_text(LIKE_THE_RELEASE)
    return folder


def test_only_the_adapter_classes_of_the_release_are_executed(clone):
    assert set(load_adapters(clone)) == {"KLoRA", "SNELL"}
    with pytest.raises(ValueError, match="name a clone of ssfgunner/SNELL"):
        load_adapters(clone / "model")
    other = clone / "other.py"
    other.write_text("class KLoRA:\n    pass\n")
    with pytest.raises(ValueError, match="has no KLoRA and SNELL"):
        load_adapters(other)


@pytest.mark.parametrize(("sparsity", "kind"), [(0.0, "KLoRA"), (0.5, "SNELL")])
def test_released_adapters_train_beside_a_frozen_layer_with_a_frozen_input(clone, sparsity, kind):
    model = nn.ModuleDict({"qkv": nn.Linear(8, 12), "proj": nn.Linear(12, 8)})
    add_released(model, ["qkv", "proj"], clone, 4, sparsity, simulated=False)
    qkv, proj = model["qkv"], model["proj"]
    assert [type(b).__name__ for b in (*qkv.branches, *proj.branches)] == [kind] * 4
    x = torch.randn(3, 8)
    y = qkv(x)
    expected = [x @ branch.matrix() for branch in qkv.branches]
    assert torch.allclose(y, qkv.base(x) + torch.cat(expected, -1), atol=1e-6)
    proj(y).sum().backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert len(trained) == 4 * 2
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained)
    assert qkv.base.weight.grad is proj.base.bias.grad is None


@pytest.mark.parametrize("variant", ["released-klora", "released-snell", "klora"])
def test_simulation_of_snell_equals_a_real_step(clone, variant):
    choice = Choice(variant, release=clone)
    simulated = measure_memory("tiny-vit", choice, 3, 1)
    real = measure_memory("tiny-vit", choice, 3, 1, real=True)
    assert (simulated.peak_bytes, simulated.standing_bytes) == (
        real.peak_bytes, real.standing_bytes,
    )  # fmt: skip
    assert simulated.saved == real.saved
    assert simulated.flops == real.flops
    assert simulated.note == ""


@pytest.mark.slow
@pytest.mark.skipif(not has_kernels(), reason="there is no compiler")
def test_simulation_of_our_selection_is_near_a_real_step():
    # How much a selection picks out depends on values; it is little beside the peak of a model.
    simulated = measure_memory("vit-b-16", Choice("snell"), 2, 1)
    real = measure_memory("vit-b-16", Choice("snell"), 2, 1, real=True)
    assert simulated.saved == real.saved
    assert simulated.standing_bytes == real.standing_bytes
    assert simulated.peak_bytes == pytest.approx(real.peak_bytes, rel=1e-3)


@pytest.mark.parametrize("variant", ["released-snell", "snell"])
def test_every_block_linear_is_adapted_and_nothing_else_is_trained(clone, variant):
    workload = make_workload("tiny-vit", 1)
    model = VARIANTS[variant].shape(workload, Choice(variant, release=clone))
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    loss_of(model, make_batch(workload, 2)).backward()
    for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"):
        here = [p for n, p in trained.items() if layer in n]
        factors = 6 if variant == "released-snell" and layer == "attn.qkv" else 2
        assert len(here) == factors
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained.values())
    assert len(trained) == (12 if variant == "released-snell" else 8)


def test_a_variant_says_what_it_needs(clone):
    with pytest.raises(NotImplementedError, match="--snell-release"):
        measure_memory("tiny-vit", Choice("released-snell"), 2, 1)
    (choice,) = choices(("released-klora",), (1e-3,), {"snell": clone})
    assert choice.release == clone
    (floor,) = choices(("floor",), (1e-3,), {"snell": clone})
    assert floor.release is None


def test_kernels_can_be_turned_off_or_the_variant_says_that_there_are_none():
    step = prepare(Setting("tiny-vit", 1, 1), Choice("snell-torch"))
    if has_kernels():
        with plain_torch():
            expected = count_operations(prepare(Setting("tiny-vit", 1, 1), Choice("snell")))
        assert count_operations(step) == expected
    else:
        with pytest.raises(NotImplementedError, match="no kernels to turn off"):
            step()


def test_the_transient_of_a_layer_is_what_is_gone_afterwards(clone):
    outputs, inputs = 96, 64
    found = measure_transient(Choice("released-snell", release=clone), outputs, inputs)
    # Forward: of the sparsified matrix at least the distances, the matrix and its magnitudes;
    # sorting takes as many values and positions of twice the size.
    assert found.forward > 4 * 4 * outputs * inputs
    assert found.backward > found.forward - 4 * outputs * inputs
    ours = measure_transient(Choice("snell"), outputs, inputs)
    assert 0 <= ours.forward < 5 * 4 * outputs * inputs


@pytest.mark.parametrize("shape", [(24, 20), (30, 41)])
def test_thresholds_of_all_algorithms_cut_off_the_same_entries(shape):
    found = {one.name: one for one in measure_threshold(*shape, rounds=1)}
    entries = shape[0] * shape[1]
    kept = entries - -(-entries * 9 // 10)
    assert list(found)[-1] == OURS
    assert {found[n].survivors for n in (OURS, "sort", "torch.kthvalue")} == {kept}
    assert {found[n].differing for n in (OURS, "sort", "torch.kthvalue")} == {0}
    # The release asks for an interpolated quantile, which may keep one entry more.
    assert found["torch.quantile"].survivors == entries - 1 - (entries - 1) * 9 // 10
    assert found["torch.quantile"].differing == found["torch.quantile"].survivors - kept
    assert all(one.seconds.measured_steps == 1 for one in found.values())


def test_pieces_of_layers_are_timed_side_by_side(clone):
    chosen = [Choice("released-snell", release=clone)]
    if find_spec("snell_layers.kernels") is not None:
        chosen.append(Choice("snell"))
    found = measure_pieces([make_layer(choice, 6, 5, r=4) for choice in chosen], 2)
    own = {c.variant: [one for one in found if one.variant == c.variant] for c in chosen}
    assert [one.piece for one in own["released-snell"]] == [UPDATE, FOLD]
    assert [one.piece for one in own.get("snell", [])] in ([], list(PIECES))
    assert all(one.bytes == 4 * 30 * PIECES[one.piece] for one in found)
    assert all((one.seconds.median or 0) > 0 for one in found)
