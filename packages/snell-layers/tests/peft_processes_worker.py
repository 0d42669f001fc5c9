"""One rank of test_peft_processes.py: `torchrun --nproc-per-node 2 peft_processes_worker.py FOLDER`.

Also imported by the test, which runs the same steps in one process on the joint batch.
"""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from peft import get_peft_model
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from snell_layers import SparsityAllocator
from snell_layers.peft import SnellAdapter, SnellConfig

STEPS, WORLD = 6, 2


class Small(nn.Module):
    """One of everything that can be adapted: patches, packed attention, a linear; and a head."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 2, 2)
        self.attn = nn.MultiheadAttention(12, 3, batch_first=True)
        self.linear = nn.Linear(12, 16)
        self.head = nn.Linear(16, 3)

    def forward(self, image):
        x = self.patches(image).flatten(2).mT
        x = x + self.attn(x, x, x, need_weights=False)[0]
        return self.head(self.linear(x).relu().mean(1))


def build():
    """The same adapted model in every process."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Small().double()
    targets = ["patches", "attn", "linear"]
    config = SnellConfig(r=4, sparsity=0.6, target_modules=targets, modules_to_save=["head"])
    return get_peft_model(model, config)


def batch(step, rank, world):
    """This rank's share of a batch of 8 images."""
    generator = torch.Generator().manual_seed(step)
    image = torch.randn(8, 3, 4, 4, generator=generator, dtype=torch.float64)
    target = torch.randn(8, 3, generator=generator, dtype=torch.float64)
    return image.chunk(world)[rank], target.chunk(world)[rank]


def train(model, rank=0, world=1, allocator=None):
    """A few steps; quotas are moved at every step if there is an allocator."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for step in range(STEPS):
        if allocator is not None:
            allocator.allocate(step)
        image, target = batch(step, rank, world)
        optimizer.zero_grad()
        (model(image) - target).square().mean().backward()
        optimizer.step()
        if allocator is not None:
            allocator.observe()
    return model


def allocator_of(model):
    return SparsityAllocator(model, final_sparsity=0.8, initial_sparsity=0.2, total=STEPS)


def in_parallel(rank, world, allocate):
    """The state of a replica after training with DDP."""
    model = build()
    allocator = allocator_of(model) if allocate else None
    train(DistributedDataParallel(model), rank, world, allocator)
    return model.state_dict()


def sharded(rank, world, each_layer):
    """The full state after training with fully_shard, and what merging is told."""
    model = build()
    if each_layer:
        for module in list(model.modules()):
            if isinstance(module, SnellAdapter):
                fully_shard(module)
    train(fully_shard(model), rank, world)
    state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    try:
        model.merge_adapter()
    except ValueError as error:
        return state, str(error)
    return state, None


def main(folder):
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    saved = {
        "replica": in_parallel(rank, world, allocate=False),
        "allocated": in_parallel(rank, world, allocate=True),
    }
    for each_layer in (False, True):
        state, said = sharded(rank, world, each_layer)
        saved[f"sharded {each_layer}"], saved[f"merge {each_layer}"] = state, said
    torch.save(saved, folder / f"{rank}.pt")
    dist.barrier()  # a process that ends before the other would break its connection
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    sys.stdout.flush()
    os._exit(0)  # all is written; torch's threads now and then abort a process that winds down
