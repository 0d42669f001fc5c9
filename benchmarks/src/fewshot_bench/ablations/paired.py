"""From result files to accuracies per variant, and to differences on the same draws."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from fewshot_bench.ablations.choices import Choice, choice_of
from fewshot_bench.results import RunResult
from fewshot_bench.statistics import Estimate, estimate

__all__ = ["Task", "tasks_of"]


@dataclass
class Task:
    """A backbone on a dataset, with every variant's accuracy by seed.

    Args:
        backbone: Its name.
        dataset: Its name.
    """

    backbone: str
    dataset: str
    accuracies: dict[Choice, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    """In [0, 1]; a run that failed is missing."""
    failed: dict[Choice, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Seeds whose run did not come to its end."""

    def accuracy(self, choice: Choice) -> Estimate | None:
        """Average over the seeds.

        Args:
            choice: A variant.

        Returns:
            Mean and 95 % interval; `None` where no run was completed.
        """
        values = self.accuracies.get(choice, {})
        return estimate(list(values.values())) if values else None

    def difference(self, choice: Choice, other: Choice) -> Estimate | None:
        r"""Compare two variants seed by seed: same shots, same test set, same order of batches.

        $$\frac1n \sum_k (a_k - b_k) \pm t_{0.975,\,n-1} \frac{s_{a-b}}{\sqrt n}$$

        Args:
            choice: A variant.
            other: What is subtracted.

        Returns:
            Mean and 95 % interval of the difference; `None` without a seed that both have.
        """
        ours, theirs = self.accuracies.get(choice, {}), self.accuracies.get(other, {})
        shared = sorted(ours.keys() & theirs.keys())
        return estimate([ours[seed] - theirs[seed] for seed in shared]) if shared else None


def tasks_of(results: Iterable[RunResult]) -> list[Task]:
    """Sort runs by what they were done on and which variant they are of.

    Args:
        results: Runs that differ in backbone, dataset, variant and seed alone.

    Returns:
        One task per backbone and dataset, images first.

    Raises:
        ValueError: Two runs are of the same variant and seed, so they differ in something else.
    """
    tasks: dict[tuple[str, str], Task] = {}
    for result in results:
        config = result.run_info.config
        key, choice = (config.backbone, config.dataset), choice_of(config)
        task = tasks.setdefault(key, Task(*key))
        if config.seed in task.accuracies[choice] or config.seed in task.failed[choice]:
            raise ValueError(
                f"two runs of seed {config.seed} are both {choice}: they differ in something that "
                "no comparison is about, so keep one of them in the folder"
            )
        if result.train_info.accuracy is None:
            task.failed[choice].append(config.seed)
        else:
            task.accuracies[choice][config.seed] = result.train_info.accuracy
    return [tasks[key] for key in sorted(tasks, reverse=True)]
