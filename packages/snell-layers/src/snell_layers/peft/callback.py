"""SNELLA's allocator in a Hugging Face Trainer."""

from pathlib import Path
from typing import Any

import torch
from transformers.trainer_callback import TrainerCallback

from snell_layers.allocator import SparsityAllocator

__all__ = ["SparsityCallback"]

_FILE = "sparsity_allocator.pt"


class SparsityCallback(TrainerCallback):
    """Allocate at the start of every epoch, observe after every optimizer step.

    Checkpoints of the Trainer get the allocator's state beside the adapter, and a resumed training
    reads it, so that it continues bit for bit.

    Args:
        final_sparsity: Share of all adapted entries that is zero in the end.
        resume_from: Folder of the checkpoint to resume from; `None` looks for the checkpoint of the
            current step in the Trainer's `output_dir`.
        **options: `initial_sparsity`, `warmup`, `final_warmup` and `betas` of `SparsityAllocator`,
            in epochs; its `total` is the Trainer's number of epochs.

    Raises:
        ValueError: When training starts: if an option is outside its range, no SNELL adapter is
            trained, or the checkpoint has no state of an allocator.

    Examples:
        >>> from snell_layers.peft.callback import SparsityCallback
        >>> callback = SparsityCallback(final_sparsity=0.9, initial_sparsity=0.01)
        >>> callback.pattern()  # filled once `Trainer(..., callbacks=[callback]).train()` runs
        {}

    Reference:
        `snell_layers.allocator.SparsityAllocator`.
    """

    def __init__(
        self, final_sparsity: float, *, resume_from: str | Path | None = None, **options: Any
    ) -> None:
        self.options: dict[str, Any] = {"final_sparsity": final_sparsity, **options}
        self.resume_from = resume_from
        self.allocator: SparsityAllocator | None = None

    def pattern(self) -> dict[str, float]:
        """Sparsity by module name; empty before training."""
        return {} if self.allocator is None else self.allocator.pattern()

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        """Find the adapted layers; continue from the checkpoint if one is resumed."""
        self.allocator = SparsityAllocator(model, total=state.num_train_epochs, **self.options)
        if state.global_step:
            self.allocator.load_state_dict(torch.load(self._file(args, state), weights_only=True))

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Share out the budget of this epoch, once: a resumed epoch has its quotas already."""
        allocator, epoch = self._allocator(), int((state.epoch or 0) + 1e-6)
        if allocator.epoch is None or epoch > allocator.epoch:
            allocator.allocate(epoch)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take in the gradients of a step, which the Trainer has not zeroed yet."""
        self._allocator().observe()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the state into the checkpoint that was just saved."""
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            folder.mkdir(parents=True, exist_ok=True)
            torch.save(self._allocator().state_dict(), folder / _FILE)

    def _allocator(self) -> SparsityAllocator:
        """The allocator of the training in progress."""
        if self.allocator is None:
            raise ValueError("no training is in progress: pass the callback to a Trainer")
        return self.allocator

    def _file(self, args: Any, state: Any) -> Path:
        """Where the state of the resumed checkpoint lies."""
        folder = self.resume_from or Path(args.output_dir) / f"checkpoint-{state.global_step}"
        file = Path(folder) / _FILE
        if not file.exists():
            raise ValueError(
                f"resume_from {str(folder)!r} has no {_FILE}: name the folder of the checkpoint "
                "that this training resumes from"
            )
        return file
