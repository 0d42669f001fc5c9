"""One rank of test_travel_trainer.py under `torchrun`: Trainer wraps the sampled model in DDP."""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import transformers
from test_travel_trainer import ROUTES, bert, examples


def main(folder):
    arguments = transformers.TrainingArguments(
        output_dir=str(folder / "run"),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        max_steps=6,
        use_cpu=True,
        ddp_backend="gloo",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        save_strategy="no",
    )
    trainer = transformers.Trainer(
        model=bert(),
        args=arguments,
        train_dataset=examples(),
        optimizer_cls_and_kwargs=ROUTES["factory"],
    )
    trainer.train()
    ddp, rank = trainer.model_wrapped, dist.get_rank()
    reduced = sum(p.numel() for p in ddp.parameters() if p.requires_grad)
    torch.save(trainer.model.state_dict(), folder / f"{rank}.pt")
    report = {"wrapper": type(ddp).__name__, "reduced": reduced}
    (folder / f"{rank}.json").write_text(json.dumps(report))
    dist.barrier()  # a process that ends before the other would break its connection
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    sys.stdout.flush()
    os._exit(0)  # all is written; torch's threads now and then abort a process that winds down
