"""One rank of test_travel_ddp.py: `torchrun --nproc-per-node 2 travel_ddp_worker.py FOLDER`."""

import contextlib
import importlib.util
import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel
from travel_model import batch, build, loss_of, optimizer_of

STEPS, MICRO = 12, 2


def part_of(step, rank, world):
    """This rank's half of the batch, in micro-batches."""
    tokens, labels = (each.chunk(world)[rank] for each in batch(step))
    return list(zip(tokens.chunk(MICRO), labels.chunk(MICRO), strict=True))


def counting(sent):
    """All-reduce as DDP does, and remember the bytes."""

    def hook(group, bucket):
        sent.append(bucket.buffer().nbytes)
        return allreduce_hook(group, bucket)

    return hook


def train(model, optimizer, rank, world):
    """Steps of two micro-batches each; the bytes that every step sent."""
    ddp, sent, steps = DistributedDataParallel(model), [], []
    ddp.register_comm_hook(None, counting(sent))
    for step in range(STEPS):
        parts = part_of(step, rank, world)
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            with contextlib.nullcontext() if last else ddp.no_sync():
                (loss_of(ddp, *part) / MICRO).backward()
        optimizer.step()
        optimizer.zero_grad()
        steps.append(sum(sent))
        sent.clear()
    return steps


def sampled(rank, world, folder, dtype):
    """SO with compact leaves; saves what this rank ended with."""
    model = build(dtype)
    optimizer = optimizer_of(model)
    buffers = [name for name, _ in model.named_buffers()]
    sampling = optimizer.sample_gradients(model)
    sent = train(model, optimizer, rank, world)
    leaves = [leaf.values.numel() for leaf in sampling.leaves.values()]
    same_buffers = buffers == [name for name, _ in model.named_buffers()]
    saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(saved, folder / f"{str(dtype).partition('.')[2]}-{rank}.pt")
    return {"sent": sent, "k": sum(leaves), "same_buffers": same_buffers}


def adamw_of(model):
    return torch.optim.AdamW(p for p in model.parameters() if p.requires_grad)


def full(rank, world):
    """Bytes of full fine-tuning of the same parameters."""
    model = build()
    return train(
        model, torch.optim.AdamW(p for p in model.parameters() if p.requires_grad), rank, world
    )


def lora(rank, world):
    """Bytes of PEFT's LoRA on the same matrices, the head trained as ever."""
    if importlib.util.find_spec("peft") is None:
        return None
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=8, target_modules=["qkv", "proj", "fc1", "fc2"], modules_to_save=["head"])
    model = get_peft_model(build(), config)
    return train(
        model, torch.optim.AdamW(p for p in model.parameters() if p.requires_grad), rank, world
    )


def wrapped_first():
    """What those are told who wrap first, and sample the wrapper or then the module inside."""
    model = build()
    optimizer, ddp, said = optimizer_of(model), DistributedDataParallel(model), []
    try:
        optimizer.sample_gradients(ddp)
    except ValueError as error:
        said.append(str(error))
    optimizer.sample_gradients(ddp.module)
    try:
        for step in range(2):
            loss_of(ddp, *batch(step)).backward()
    except RuntimeError as error:
        said.append(str(error))
    return said


def collectives():
    """Names of everything that one step sends."""
    model = build()
    optimizer = optimizer_of(model)
    optimizer.sample_gradients(model)
    ddp = DistributedDataParallel(model)
    for step in range(2):  # the first iterations find the order of the buckets
        loss_of(ddp, *batch(step)).backward()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        loss_of(ddp, *batch(2)).backward()
        optimizer.step()
    return [event.name for event in profile.events() if event.name.startswith("gloo:")]


def main(folder):
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    result = {
        "float32": sampled(rank, world, folder, torch.float32),
        "float64": sampled(rank, world, folder, torch.float64),
        "full": full(rank, world),
        "lora": lora(rank, world),
        "refused": wrapped_first(),
        "collectives": collectives(),
    }
    (folder / f"{rank}.json").write_text(json.dumps(result))
    dist.barrier()  # a process that ends before the other would break its connection
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    sys.stdout.flush()
    os._exit(0)  # all is written; torch's threads now and then abort a process that winds down
