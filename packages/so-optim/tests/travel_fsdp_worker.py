"""One rank of test_travel_fsdp.py: `torchrun --nproc-per-node 2 travel_fsdp_worker.py FOLDER`."""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from travel_model import batch, build, loss_of, matrices, optimizer_of

from so_optim import SO

STEPS = 7


def shard(model, mesh, **options):
    """Every block and the rest."""
    for block in model.blocks:
        fully_shard(block, mesh=mesh, **options)
    return fully_shard(model, mesh=mesh, **options)


def message_of(action):
    """What an action is refused with."""
    try:
        action()
    except ValueError as error:
        return str(error)
    return "nothing"


def refused(mesh):
    """Every order in which sharding and SO can meet."""
    sharded = shard(build(), mesh)
    said = {"construct": message_of(lambda: SO(sharded.named_parameters(), density_ratio=0.05))}

    model = build()
    optimizer = optimizer_of(model)
    shard(model, mesh)
    said["sample"] = message_of(lambda: optimizer.sample_gradients(model))

    model = build()
    optimizer = optimizer_of(model)
    optimizer.sample_gradients(model)
    shard(model, mesh)
    said["step"] = message_of(optimizer.step)
    said["forward"] = message_of(lambda: loss_of(model, *batch(0)))
    return said


def average_gradients(optimizer, args, kwargs):
    """Average the leaves' gradients over all processes, before a step."""
    leaves = [leaf for group in optimizer.param_groups for leaf in group["params"]]
    total = torch.cat([leaf.grad for leaf in leaves])
    dist.all_reduce(total)
    parts = (total / dist.get_world_size()).split([len(leaf) for leaf in leaves])
    for leaf, part in zip(leaves, parts, strict=True):
        leaf.grad.copy_(part)


def recipe(mesh, rank, world, folder):
    """SO's matrices whole on every rank, everything else sharded."""
    model = build(torch.float64).requires_grad_(True)
    weights = matrices(model)
    optimizer = SO(weights, lr=1e-2, density_ratio=0.01, T=3)
    optimizer.sample_gradients(model)
    optimizer.register_step_pre_hook(average_gradients)

    own = {*weights, *optimizer.param_groups[0]["params"]}  # weights and their compact leaves
    shard(model, mesh, ignored_params=own)
    others = [p for p in model.parameters() if p not in own]
    adam = torch.optim.Adam(others, lr=1e-3)

    for step in range(STEPS):
        tokens, labels = (each.chunk(world)[rank] for each in batch(step))
        loss_of(model, tokens, labels).backward()
        for each in (optimizer, adam):
            each.step()
            each.zero_grad()
    state = {
        name: value.full_tensor() if hasattr(value, "full_tensor") else value
        for name, value in model.state_dict().items()
    }
    torch.save(state, folder / f"{rank}.pt")
    return {
        "whole": sorted(name for name, p in model.named_parameters() if p in own),
        "sharded": sum(hasattr(p, "full_tensor") for p in model.parameters()),
    }


def main(folder):
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    mesh = init_device_mesh("cpu", (world,))
    result = {"refused": refused(mesh), "recipe": recipe(mesh, rank, world, folder)}
    (folder / f"{rank}.json").write_text(json.dumps(result))
    dist.barrier()  # a process that ends before the other would break its connection
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    sys.stdout.flush()
    os._exit(0)  # all is written; torch's threads now and then abort a process that winds down
