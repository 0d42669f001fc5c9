"""Result files with known numbers, for the tests of what reads them."""

from dataclasses import replace
from pathlib import Path

from fewshot_bench.config import RunConfig, run_name
from fewshot_bench.results import (
    MetaInfo,
    RunInfo,
    RunResult,
    StepTime,
    TrainInfo,
    write_result,
)
from fewshot_bench.seeds import derive

META = MetaInfo(
    packages={"torch": "2.15.0", "so-optim": "0.1.0"},
    git_revision="0123456789abcdef0123456789abcdef01234567",
    git_dirty=False,
    device="Some CPU",
    python="3.11.7",
    platform="Linux",
    threads=1,
)


def made_result(
    correct: int = 90,
    count: int = 100,
    *,
    peak: int = 2_000_000,
    dirty: bool = False,
    device_name: str = "Some CPU",
    **fields,
) -> RunResult:
    """Make the result of a run that got `correct` of `count` right."""
    config = RunConfig(**fields)
    train = TrainInfo(
        accuracy=correct / count,
        correct=correct,
        count=count,
        error=1 - correct / count,
        loss=[2.3, 1.1, 0.4],
        step_time_s=StepTime(0.010, 0.009, 0.012, 1, 2),
        peak_memory_bytes=peak,
        gradient_bytes=400_000,
        optimizer_state_bytes=800_000,
        trainable_parameters=0 if config.method == "zero_shot" else 12_345,
        total_parameters=340_000,
        changed_parameters=12_000,
        adapter_bytes=51_000,
    )
    info = RunInfo(
        name=run_name(config),
        created_at="2026-11-20T12:00:00+00:00",
        total_time_s=1.5,
        status="completed",
        error=None,
        config=config,
        seeds=derive(config.seed),
    )
    return RunResult(info, train, replace(META, git_dirty=dirty, device=device_name))


def failed_result(error: str = "the loss was NaN at step 3 with lr 9.0", **fields) -> RunResult:
    """Make the result of a run that failed."""
    done = made_result(**fields)
    info = replace(done.run_info, status="failed", error=error)
    return RunResult(info, TrainInfo(loss=[2.3, 2.9]), META)


def store(folder: Path, *results: RunResult) -> list[Path]:
    """Write results where a sweep would."""
    runs = folder / "runs"
    return [write_result(result, runs / f"{result.run_info.name}.json") for result in results]
