"""Small data of one's own, so that the harness is tested without any dataset of the registry."""

import csv
import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot_bench.config import RunConfig, resolve, run_name
from fewshot_bench.environment import describe
from fewshot_bench.results import RunInfo, RunResult, StepTime, TrainInfo
from fewshot_bench.seeds import derive

CLASSES = ("circle", "cross", "square")
WORDS = {"circle": "round ring", "cross": "two crossed lines", "square": "four equal sides"}


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three classes, ten noisy pictures of an own pattern in each."""
    folder, draw = tmp_path_factory.mktemp("data") / "shapes", np.random.default_rng(0)
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        pattern = draw.integers(0, 255, (8, 8))
        for number in range(10):
            noisy = np.clip(pattern + draw.normal(0, 40, (8, 8)), 0, 255).astype("uint8")
            Image.fromarray(noisy).resize((32, 32)).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV file of three classes, ten short texts each."""
    path = tmp_path_factory.mktemp("data") / "shapes.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["text", "label"])
        table.writerows([f"{WORDS[c]} number {i}", c] for c in CLASSES for i in range(10))
    return path


@pytest.fixture
def configure(images: Path, texts: Path) -> Callable[..., RunConfig]:
    """Make configurations of very short runs on data that the backbone reads."""

    def make(method: str, backbone: str = "tiny-vit", **choices: object) -> RunConfig:
        own = texts if backbone == "tiny-bert" else images
        defaults = {"dataset": str(own), "checkpoint": "random", "shots": 2, "steps": 3}
        return RunConfig(method=method, backbone=backbone, **{**defaults, **choices})

    return make


@pytest.fixture(scope="session")
def result() -> RunResult:
    """The record of a run that never happened, with every field filled in."""
    config = resolve(RunConfig(method="lora", shots=1))
    return RunResult(
        RunInfo(
            name=run_name(config),
            created_at="2026-11-20T12:00:00+00:00",
            total_time_s=1.5,
            status="completed",
            error=None,
            config=config,
            seeds=derive(config.seed),
        ),
        TrainInfo(
            accuracy=0.9,
            correct=90,
            count=100,
            error=0.1,
            loss=[2.3, 1.1],
            step_time_s=StepTime(0.010, 0.009, 0.012, 1, 1),
            peak_memory_bytes=2_000_000,
            gradient_bytes=400_000,
            optimizer_state_bytes=800_000,
            trainable_parameters=12_345,
            total_parameters=340_000,
            changed_parameters=12_000,
            adapter_bytes=51_000,
        ),
        describe("cpu", 1),
    )


@pytest.fixture
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """Let the system refuse to write more than some bytes to a file, as a full disk would."""

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited
