"""START HERE: the whole flow of a run, on one screen.

registry → few-shot data → backbone → method → one loop → metrics → result
"""

import itertools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot_bench import adapters, metrics
from fewshot_bench.config import RunConfig, resolve, run_name
from fewshot_bench.environment import describe
from fewshot_bench.fit import FitLog, NonFiniteLoss, fit
from fewshot_bench.methods import find_method
from fewshot_bench.recomputing import recomputed
from fewshot_bench.reproducible import reproducible
from fewshot_bench.results import RunInfo, RunResult, TrainInfo
from fewshot_bench.seeds import derive
from fewshot_bench.selection import BestOnTest
from fewshot_bench.task import open_task
from fewshot_bench.tuned import Tuned

if TYPE_CHECKING:
    import torch

    from fewshot_data import FewShotData

__all__ = ["SaveFailed", "Trained", "run", "score", "train"]


@dataclass(frozen=True)
class Trained:
    """An adapted model, with the data it was adapted to and what the loop saw."""

    tuned: Tuned
    data: "FewShotData"
    log: FitLog
    changed_parameters: int
    selected_step: int | None = None


class SaveFailed(OSError):
    """The run is done but its model could not be saved.

    Args:
        result: The record of the run, which is not lost.
    """

    def __init__(self, result: RunResult) -> None:
        super().__init__(result.run_info.name)
        self.result = result

    def __str__(self) -> str:
        return str(self.__cause__)


def run(
    config: RunConfig,
    *,
    on_step: Callable[[int, float], None] | None = None,
    save: str | Path | None = None,
) -> RunResult:
    """Adapt a backbone as configured, evaluate it, and record everything.

    Args:
        config: The run.
        on_step: Called after each step with its number, from 0, and its loss: a progress bar.
        save: Folder that gets the adapted model, for `adapters.evaluate_saved`.

    Returns:
        The record. A loss or logits that are not finite give one with status `failed`, the reason
        and the losses so far; nothing is saved then.

    Raises:
        ValueError: The configuration is impossible; the message says what to change.
        FileNotFoundError: Data or checkpoint are not where they were looked for.
        SaveFailed: `save` cannot be written; the exception carries the record.

    Examples:
        >>> config = RunConfig(method="linear_probe", shots=1, steps=5, test_limit=100)
        >>> run(config).train_info.count
        100
    """
    config, started, clock = resolve(config), datetime.now(UTC), time.perf_counter()
    if save is not None:
        adapters.check_folder(save)
        adapters.check_kind(config)
    known, error, unsaved = TrainInfo(), None, None
    try:
        trained = train(config, on_step=on_step)
        known = _counted(trained)
        scores = score(config, trained.tuned, trained.data)
        known = replace(
            known,
            accuracy=scores.accuracy,
            correct=scores.correct,
            count=scores.count,
            error=scores.error,
            metric=scores.metric,
            score=scores.score,
        )
        if save is not None:
            adapters.save(trained.tuned, config, save, scores, trained.data.class_names)
    except NonFiniteLoss as failure:
        known, error = TrainInfo(loss=failure.log.loss), str(failure)
    except metrics.NonFiniteLogits as failure:
        rates = f"lr {config.lr}, head lr {config.head_lr}"
        error = f"after step {len(known.loss) - 1} ({rates}): {failure}"
    except OSError as failure:
        if known.accuracy is None:  # it was data or weights that could not be read
            raise
        unsaved = failure
    result = RunResult(
        run_info=RunInfo(
            name=run_name(config),
            created_at=started.isoformat(timespec="seconds"),
            total_time_s=time.perf_counter() - clock,
            status="failed" if error else "completed",
            error=error,
            config=config,
            seeds=derive(config.seed),
        ),
        train_info=known,
        meta_info=describe(config.device, config.threads),
    )
    if unsaved is not None:
        raise SaveFailed(result) from unsaved
    return result


def train(config: RunConfig, *, on_step: Callable[[int, float], None] | None = None) -> Trained:
    """Do the first half of `run`: from a configuration to an adapted model.

    Args:
        config: The run.
        on_step: Called after each step with its number and its loss.

    Returns:
        The adapted model, its data and the log of the loop.

    Raises:
        ValueError: The configuration is impossible.
        FileNotFoundError: Data or checkpoint are not where they were looked for.
        NonFiniteLoss: The loss became NaN or infinite; it carries the log so far.
    """
    with reproducible(config):
        data, backbone = open_task(config)
        epoch_steps = math.ceil(len(data.train) / config.batch_size)
        if config.loop.epochs is not None:
            config = replace(config, steps=config.loop.epochs * epoch_steps)
        tuned = find_method(config.method).build(backbone, config)
        if tuned.survey:
            tuned.survey(_one_pass(config, data))
        before, looks = metrics.snapshot(tuned), _looks(config, tuned, data, epoch_steps)
        with recomputed(backbone) if config.loop.checkpointing else nullcontext():
            log = fit(
                tuned,
                data.train_batches(config.batch_size, seed=derive(config.seed).order),
                steps=config.steps,
                device=config.device,
                schedule=config.schedule,
                loop=config.loop,
                epoch_steps=epoch_steps,
                on_step=on_step,
                on_epoch=looks.after if looks else None,
            )
        selected = looks.restore() if looks else None
        return Trained(tuned, data, log, metrics.changed_parameters(tuned, before), selected)


def _looks(
    config: RunConfig, tuned: Tuned, data: "FewShotData", epoch_steps: int
) -> BestOnTest | None:
    """Prepare a selection on the test set, if it was asked for and something is trained."""
    if config.loop.selection == "last" or tuned.optimizer is None:
        return None
    epochs = math.ceil(config.steps / epoch_steps)
    return BestOnTest(tuned, data, config.loop, epochs, config.device)


def score(config: RunConfig, tuned: Tuned, data: "FewShotData") -> metrics.Metrics:
    """Do the second half of `run`: count what an adapted model gets right.

    Args:
        config: The run.
        tuned: The adapted model.
        data: Its data.

    Returns:
        Correct answers among the test examples.

    Raises:
        NonFiniteLogits: The model answers NaN or infinity.
    """
    with reproducible(config):
        return metrics.evaluate(
            tuned.model,
            data.test_batches(metrics.TEST_BATCH),
            device=config.device,
            metric=data.spec.metric,
        )


def _one_pass(config: RunConfig, data: "FewShotData") -> Iterator[dict[str, "torch.Tensor"]]:
    """Go through the shots once; the loop's own batches start anew after it."""
    batches = data.train_batches(config.batch_size, seed=derive(config.seed).order)
    for batch in itertools.islice(batches, math.ceil(len(data.train) / config.batch_size)):
        yield {key: value.to(config.device) for key, value in batch.items()}


def _counted(trained: Trained) -> TrainInfo:
    """Collect what is known of a run before its accuracy."""
    tuned, log = trained.tuned, trained.log
    return TrainInfo(
        loss=log.loss,
        step_time_s=log.step_time(),
        peak_memory_bytes=log.peak_memory_bytes,
        gradient_bytes=log.gradient_bytes,
        optimizer_state_bytes=metrics.state_bytes(tuned),
        trainable_parameters=metrics.trainable_parameters(tuned),
        total_parameters=metrics.total_parameters(tuned),
        changed_parameters=trained.changed_parameters,
        adapter_bytes=adapters.weight_bytes(tuned),
        selected_step=trained.selected_step,
    )
