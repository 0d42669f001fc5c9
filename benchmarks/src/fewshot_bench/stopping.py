"""When a training ends before its last step."""

from fewshot_bench.loop_options import LoopOptions

__all__ = ["Stopping"]


class Stopping:
    r"""Watch the losses of a training and say when they are low enough.

    After a pass over the training set, its loss is
    $\bar L = \sum_b n_b L_b / \sum_b n_b$ over batches $b$ of $n_b$ examples.

    Args:
        loop: Gives the two limits.
        epoch_steps: Steps of one pass.

    Examples:
        >>> stopping = Stopping(LoopOptions(stop_epoch_loss=0.1), epoch_steps=2)
        >>> stopping.after(0.0, 4), stopping.after(0.15, 4)
        (False, True)
    """

    def __init__(self, loop: LoopOptions, epoch_steps: int) -> None:
        self.loop, self.epoch_steps = loop, epoch_steps
        self.step, self.total, self.examples = 0, 0.0, 0

    def after(self, loss: float, examples: int) -> bool:
        """Take note of a step.

        Args:
            loss: Its mean loss.
            examples: In its batch.

        Returns:
            Whether the training is to end now.
        """
        self.step, self.total = self.step + 1, self.total + loss * examples
        self.examples += examples
        if loss <= self.loop.stop_batch_loss:
            return self.loop.stop_batch_loss > 0
        if self.step % self.epoch_steps:
            return False
        mean, self.total, self.examples = self.total / self.examples, 0.0, 0
        return mean < self.loop.stop_epoch_loss
