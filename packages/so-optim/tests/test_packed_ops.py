"""A step is a fixed number of operations, none of which makes the host wait, in little memory."""

from collections import Counter

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from so_optim import SO

SHAPES = [(24, 16), (16, 16), (32, 16), (16, 32)]  # three support sizes, as in a transformer
WAITING = ("_local_scalar_dense", "nonzero", "unique", "masked_select", "equal", "is_nonzero")


class Operations(TorchDispatchMode):
    """Names of the operations that are not views."""

    def __init__(self):
        super().__init__()
        self.names = Counter()
        self.by_mask = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        space, name = func._schema.name.split("::")
        if space == "aten" and not func.is_view and name != "_unsafe_view":
            self.names[name] += 1
        if name.startswith("index"):
            tensors = [i for a in args[1:] if isinstance(a, list) for i in a]
            self.by_mask += any(isinstance(i, Tensor) and i.dtype == torch.bool for i in tensors)
        return func(*args, **(kwargs or {}))


def sampled(blocks, dtype=torch.float32, **settings):
    """Sampled linear layers; gradients are put into the leaves directly."""
    generator = torch.Generator().manual_seed(0)
    model = nn.ModuleList(nn.Linear(c, r, bias=False) for r, c in SHAPES * blocks).to(dtype)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))
    optimizer = SO(model.parameters(), density_ratio=0.05, **settings)
    return model, optimizer, optimizer.sample_gradients(model)


def set_grads(sampling, number):
    generator = torch.Generator().manual_seed(number)
    for leaf in sampling.leaves.values():
        leaf.values.grad = torch.randn(leaf.values.shape, generator=generator)


def operations(blocks, waits, **settings):
    _, optimizer, sampling = sampled(blocks, **settings)
    optimizer._packed.waits = waits
    for number in range(3):
        set_grads(sampling, number)
        optimizer.step()
    set_grads(sampling, 3)
    with Operations() as seen:
        optimizer.step()
    return seen


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "decoupled_weight_decay": True},
        {"prune": "before_update", "maximize": True},
        {"bias_correction": "per_entry"},
        {"dtype": torch.bfloat16},
    ],
    ids=["plain", "coupled", "decoupled", "before", "per-entry", "bf16"],
)
def test_the_number_of_operations_is_that_of_one_matrix(settings, waits):
    few, many = (operations(blocks, waits, **settings).names for blocks in (2, 24))
    assert few == many
    assert sum(many.values()) <= 64


def test_the_host_never_waits_on_an_accelerator():
    seen = operations(2, waits=False, weight_decay=0.1)
    assert not [name for name in seen.names if name.startswith(WAITING)]
    assert seen.by_mask == 0
    with Operations() as seen:
        int(torch.ones(3)[torch.tensor([True, False, False])])
    assert seen.names["_local_scalar_dense"] == seen.by_mask == 1  # they would have been seen


def test_more_support_sizes_do_not_add_operations():
    """From some number of different sizes on one sort serves all."""

    def count(sizes):
        model = nn.ModuleList(nn.Linear(8 + i, 8, bias=False) for i in range(sizes))
        optimizer = SO(model.parameters(), density_ratio=0.5)
        sampling = optimizer.sample_gradients(model)
        for number in range(3):
            set_grads(sampling, number)
            optimizer.step()
        set_grads(sampling, 3)
        with Operations() as seen:
            optimizer.step()
        return sum(seen.names.values())

    assert count(9) == count(25) <= 64


def test_many_dense_parameters_cost_what_one_does():
    def count(number):
        weights = [torch.zeros(5).requires_grad_() for _ in range(number)]
        optimizer = SO(weights)
        for weight in weights:
            weight.grad = torch.ones(5)
        optimizer.step()
        with Operations() as seen:
            optimizer.step()
        return seen.names

    assert count(2) == count(60)


def test_large_dense_weights_are_not_copied_side_by_side(monkeypatch):
    monkeypatch.setattr("so_optim.packed.dense.PORTION", 12)
    weights = [torch.zeros(n).requires_grad_() for n in (5, 7, 1, 40, 3, 3, 0, 12)]
    optimizer = SO(weights, lr=0.1)
    for _ in range(2):
        for weight in weights:
            weight.grad = torch.ones_like(weight)
        optimizer.step()
    assert [pack.sizes for pack in optimizer._packed.packs] == [[5, 7], [1], [40], [3, 3, 0], [12]]
    assert all(torch.allclose(w, torch.full_like(w, -0.2)) for w in weights)


def tensors_of(thing, seen):
    """All tensors that an object holds, by storage."""
    if isinstance(thing, Tensor):
        seen[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes()
    elif isinstance(thing, (list, tuple)):
        for each in thing:
            tensors_of(each, seen)
    elif hasattr(thing, "__slots__") and type(thing).__module__.startswith("so_optim"):
        for name in thing.__slots__:
            tensors_of(getattr(thing, name), seen)
    elif type(thing).__module__.startswith("so_optim"):
        for each in vars(thing).values():
            tensors_of(each, seen)
    return seen


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 28), (torch.bfloat16, 36)])
def test_bytes_per_support_entry(dtype, most):
    _, optimizer, sampling = sampled(12, dtype)
    for number in range(12):
        set_grads(sampling, number)
        optimizer.step()
    (pack,) = optimizer._packed.packs
    held = tensors_of([pack.slots, pack.layout, pack.clock, pack.warning.seen, pack.coming], {})
    grads = sum(leaf.values.grad.nbytes for leaf in sampling.leaves.values())
    entries = sum(len(leaf.values) for leaf in sampling.leaves.values())
    table = 6 * 8 * len(sampling.leaves)  # of the matrices, not of their entries
    assert sum(held.values()) + grads <= most * entries + table + 128


def test_buffers_keep_their_addresses():
    """A CUDA graph goes on reading them after a window has opened."""
    _, optimizer, sampling = sampled(2, T=2)
    seen = set()
    for number in range(7):
        set_grads(sampling, number)
        optimizer.step()
        (pack,) = optimizer._packed.packs
        seen.add((pack.slots.positions.data_ptr(), pack.slots.moments.data_ptr()))
    assert len(seen) == 1
    assert pack.draws == [4] * len(sampling.leaves)


@pytest.mark.parametrize("T", [1, 3])
def test_a_replay_and_advance_are_a_step(T):
    """A graph replays the device's part; `advance` does the host's."""
    _, stepped, first = sampled(2, T=T, weight_decay=0.1)
    _, replayed, second = sampled(2, T=T, weight_decay=0.1)
    for number in range(8):
        set_grads(first, number)
        set_grads(second, number)
        stepped.step()
        if number == 0:
            replayed.step()
        else:
            with torch.no_grad():
                assert replayed._packed.move()
            replayed.advance()
    pairs = zip(first.leaves.values(), second.leaves.values(), strict=True)
    for ours, theirs in pairs:
        assert torch.equal(ours.weight, theirs.weight)
        assert torch.equal(ours.positions(), theirs.positions())


def test_writing_through_one_storage_is_seen_by_autograd():
    _, optimizer, sampling = sampled(1)
    versions = [leaf.weight._version for leaf in sampling.leaves.values()]
    set_grads(sampling, 0)
    optimizer.step()
    changed = [leaf.weight._version for leaf in sampling.leaves.values()]
    assert all(new > old for new, old in zip(changed, versions, strict=True))


def test_a_model_moved_elsewhere_is_followed():
    model, optimizer, sampling = sampled(1, T=4)
    twin, other, twins = sampled(1, T=4)
    for number in range(9):
        set_grads(sampling, number)
        set_grads(twins, number)
        if number in (3, 6):
            for leaf in sampling.leaves.values():
                leaf.weight.data = leaf.weight.data.clone()
        optimizer.step()
        other.step()
    torch.testing.assert_close(model.state_dict(), twin.state_dict(), rtol=0, atol=0)


def test_one_storage_and_many_give_the_same_bits():
    sizes = [r * c for r, c in SHAPES]
    storage = torch.randn(sum(sizes), generator=torch.Generator().manual_seed(0))
    views = [
        part.view(shape).requires_grad_()
        for part, shape in zip(storage.clone().split(sizes), SHAPES, strict=True)
    ]
    apart = [view.detach().clone().requires_grad_() for view in views]
    together = SO(views, density_ratio=0.1, T=3, weight_decay=0.1)
    separate = SO(apart, density_ratio=0.1, T=3, weight_decay=0.1)
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        for a, b in zip(views, apart, strict=True):
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        together.step()
        separate.step()
    assert together._packed.packs[0].weights.flat is not None
    assert separate._packed.packs[0].weights.flat is None
    torch.testing.assert_close(views, apart, rtol=0, atol=0)
