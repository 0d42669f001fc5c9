"""Sweeps: in parallel, resumed, interrupted, killed; nothing is lost and nothing differs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from fewshot_bench.claims import claim
from fewshot_bench.cli import main
from fewshot_bench.config import RunConfig, run_name
from fewshot_bench.faults.kills import workers
from fewshot_bench.grid import expand
from fewshot_bench.results import read_result
from fewshot_bench.sweep import plan, sweep
from fewshot_bench.workers import Worker, result_path

FEWSHOT = Path(sys.executable).with_name("fewshot")
SMALL = ("--checkpoints", "random", "--steps", "3", "--shots", "2")


def numbers(folder: Path) -> dict[str, Any]:
    """Read what a repeat must reproduce to the last bit: everything but when and how fast."""
    seen = {}
    for path in sorted((folder / "runs").glob("*.json")):
        table = read_result(path).to_dict()
        for part, keys in {
            "run_info": ("created_at", "total_time_s"),
            "train_info": ("step_time_s",),
            "meta_info": ("git_revision", "git_dirty"),
        }.items():
            for key in keys:
                del table[part][key]
        seen[path.name] = table
    return seen


def visible(folder: Path) -> set[str]:
    """List the finished results."""
    return {path.name for path in (folder / "runs").glob("*.json")}


def wait_for(condition: Callable[[], object], seconds: float = 300.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that ended and was not asked how does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@contextmanager
def started(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Run a sweep in the background; Ctrl-C reaches it even if these tests ignore theirs."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [FEWSHOT, "sweep", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A sweep that nothing interrupted, and its arguments."""
    out = tmp_path_factory.mktemp("whole")
    arguments = ["--methods", "linear_probe", "bias", "so", "--datasets", str(images), *SMALL]
    assert main(["sweep", *arguments, "--out", str(out), "--jobs", "1"]) == 0
    return out, arguments


def test_a_sweep_does_the_whole_grid(whole: tuple[Path, list[str]]) -> None:
    out, _ = whole
    results = [read_result(path) for path in (out / "runs").glob("*.json")]
    assert len(results) == 9
    assert {r.run_info.status for r in results} == {"completed"}
    assert {r.run_info.config.seed for r in results} == {1, 2, 3}


def test_what_is_done_is_skipped(
    whole: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    out, arguments = whole
    before = {path: path.stat().st_mtime_ns for path in (out / "runs").iterdir()}
    assert main(["sweep", *arguments, "--out", str(out)]) == 0
    assert "0 runs to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (out / "runs").iterdir()} == before


def test_damaged_and_foreign_results_are_done_again(
    whole: tuple[Path, list[str]], images: Path, tmp_path: Path
) -> None:
    axes = {"method": ["bias"], "dataset": [str(images)], "shots": [2], "checkpoint": ["random"]}
    first, second, third = expand(axes=axes, options={"steps": 3})
    good = result_path(whole[0], first)
    for config, text in ((first, good.read_text()), (second, "{"), (third, good.read_text())):
        path = result_path(tmp_path, config)
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert plan([first, second, third], tmp_path).pending == [second, third]


def test_failed_runs_wait_until_they_are_asked_for(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["sweep", "--methods", "bias", "full", "--datasets", str(images), *SMALL]
    options = ["--lr", "1e25", "--schedule", "constant", "--seeds", "1", "--out", str(tmp_path)]
    assert main([*arguments, *options, "--jobs", "1"]) == 0
    shown = capsys.readouterr().out
    assert "2 runs failed; --retry-failed does them again" in shown
    assert "failed: bias--tiny-vit" in shown
    results = [read_result(path) for path in (tmp_path / "runs").glob("*.json")]
    assert [r.run_info.status for r in results] == ["failed", "failed"]
    assert all("1e+25" in str(r.run_info.error) for r in results)
    assert main([*arguments, *options]) == 0
    assert "0 runs to do" in (shown := capsys.readouterr().out)
    assert "2 failed earlier" in shown
    configs = [r.run_info.config for r in results]
    assert len(plan(configs, tmp_path, retry_failed=True).pending) == 2


def test_a_run_that_cannot_be_done_is_recorded_and_the_others_go_on(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--methods", "bias", "--datasets", str(images), "--seeds", "1", "--jobs", "1"]
    options = ["--shots", "2", "200", "--checkpoints", "random", "--steps", "2"]
    assert main(["sweep", *arguments, *options, "--out", str(tmp_path)]) == 0
    results = {}
    for path in (tmp_path / "runs").glob("*.json"):
        result = read_result(path)
        results[result.run_info.config.shots] = result.run_info
    assert (results[2].status, results[200].status) == ("completed", "failed")
    assert "--replace" in str(results[200].error)
    assert "--replace" in capsys.readouterr().out


def test_combinations_that_make_no_sense_are_left_out_and_counted(
    images: Path, texts: Path, tmp_path: Path
) -> None:
    axes = {
        "method": ["zero_shot", "bias"],
        "backbone": ["tiny-vit", "tiny-clip", "tiny-bert"],
        "dataset": [str(images), str(texts)],
        "shots": [1],
    }
    todo = plan(expand(axes=axes), tmp_path)
    kept = {(c.method, c.backbone, c.dataset) for c in todo.pending}
    assert kept == {
        ("bias", "tiny-vit", str(images)),
        ("bias", "tiny-clip", str(images)),
        ("zero_shot", "tiny-clip", str(images)),
        ("bias", "tiny-bert", str(texts)),
    }
    assert sum(todo.left_out.values()) == (12 - 4) * 3
    assert all(count >= 3 for count in todo.left_out.values())


def test_long_runs_start_first(images: Path, tmp_path: Path) -> None:
    axes = {"method": ["zero_shot", "full", "snell"], "backbone": ["tiny-clip"], "shots": [1]}
    todo = plan(expand(axes={**axes, "dataset": [str(images)], "seed": [1]}), tmp_path)
    assert [config.method for config in todo.pending] == ["snell", "full", "zero_shot"]


@pytest.mark.slow
def test_an_output_that_becomes_unwritable_stops_the_sweep(images: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("in the way")
    axes = {"method": ["bias"], "dataset": [str(images)], "shots": [2], "checkpoint": ["random"]}
    with pytest.raises(OSError, match="cannot write"):
        sweep(expand(axes=axes, options={"steps": 1}), tmp_path, jobs=1, on_done=lambda *_: None)


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_nothing(
    whole: tuple[Path, list[str]], tmp_path: Path
) -> None:
    out, arguments = whole
    with started(*arguments, "--out", tmp_path, "--jobs", "1") as process:
        wait_for(lambda: visible(tmp_path))
        (worker,) = workers(process.pid)
        os.kill(worker, signal.SIGKILL)
        _, complaints = process.communicate(timeout=300)
    assert process.returncode == 0, complaints
    assert numbers(tmp_path) == numbers(out)


@pytest.mark.slow
def test_a_run_that_kills_its_workers_is_recorded(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give = Worker.give

    def deadly(self: Worker, config: RunConfig) -> None:
        if config.seed == 2:
            self.process.kill()
            self.process.join()
        give(self, config)

    monkeypatch.setattr(Worker, "give", deadly)
    axes = {"method": ["bias"], "dataset": [str(images)], "shots": [2], "checkpoint": ["random"]}
    configs = expand(axes={**axes, "seed": [2, 3]}, options={"steps": 1})
    outcomes = sweep(configs, tmp_path, jobs=1, on_done=lambda *_: None)
    assert [outcome.error is None for outcome in outcomes] == [False, True]
    failed = read_result(result_path(tmp_path, configs[0])).run_info
    assert failed.status == "failed"
    assert "died 2 times (exit code -9)" in str(failed.error)


@pytest.mark.slow
def test_kill_9_in_the_middle_then_the_same_numbers(
    whole: tuple[Path, list[str]], tmp_path: Path
) -> None:
    out, arguments = whole
    with started(*arguments, "--out", tmp_path, "--jobs", "2") as process:
        wait_for(lambda: visible(tmp_path))
        busy = workers(process.pid)
        process.kill()
        process.wait()
        wait_for(lambda: not any(map(alive, busy)), seconds=60)
    kept = visible(tmp_path)
    assert 0 < len(kept) < 9
    left_behind = tmp_path / "runs" / ".half.json.0123456789ab.tmp"
    left_behind.write_text("{")
    os.utime(left_behind, (0, 0))
    stamps = {name: (tmp_path / "runs" / name).stat().st_mtime_ns for name in kept}
    assert main(["sweep", *arguments, "--out", str(tmp_path), "--jobs", "1"]) == 0
    assert stamps == {n: (tmp_path / "runs" / n).stat().st_mtime_ns for n in kept}
    assert not left_behind.exists()
    assert numbers(tmp_path) == numbers(out)


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished(whole: tuple[Path, list[str]], tmp_path: Path) -> None:
    out, arguments = whole
    # Long enough not to be over before it is interrupted, on a busy machine too.
    seeds = ("--seeds", *map(str, range(1, 31)))
    with started(*arguments, *seeds, "--out", tmp_path, "--jobs", "2") as process:
        wait_for(lambda: visible(tmp_path))
        busy = workers(process.pid)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to everyone
        began = time.monotonic()
        _, complaints = process.communicate(timeout=120)
    assert time.monotonic() - began < 30  # at once, were the machine not busy with other tests
    assert process.returncode == 130
    assert "Traceback" not in complaints
    assert complaints.rstrip().splitlines()[-1].startswith("fewshot: interrupted")
    assert not any(map(alive, busy))
    reference, finished = numbers(out), numbers(tmp_path)
    assert finished
    assert all(finished[name] == reference[name] for name in finished.keys() & reference.keys())


@pytest.mark.slow
def test_two_sweeps_of_one_folder_share_the_work(
    whole: tuple[Path, list[str]], tmp_path: Path
) -> None:
    out, arguments = whole
    shared = (*arguments, "--out", tmp_path, "--jobs", "1")
    with started(*shared) as one, started(*shared) as other:
        ended = [process.communicate(timeout=300) for process in (one, other)]
    assert [one.returncode, other.returncode] == [0, 0], ended
    assert numbers(tmp_path) == numbers(out)
    claims = tmp_path / ".claims"
    assert not list(claims.iterdir())


@pytest.mark.slow
def test_what_another_sweep_is_at_is_done_when_that_one_dies(images: Path, tmp_path: Path) -> None:
    axes = {"method": ["bias"], "dataset": [str(images)], "shots": [2], "checkpoint": ["random"]}
    configs = expand(axes={**axes, "seed": [1, 2]}, options={"steps": 1})
    with ExitStack() as other:
        assert other.enter_context(claim(tmp_path, run_name(configs[0])))
        outcomes = sweep(configs, tmp_path, jobs=1, on_done=lambda *_: other.close())
    assert [outcome.name for outcome in outcomes] == [run_name(c) for c in reversed(configs)]
    assert [outcome.error for outcome in outcomes] == [None, None]


@pytest.mark.slow
def test_a_run_that_hangs_is_ended_and_the_others_go_on(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give = Worker.give

    def hanging(self: Worker, config: RunConfig) -> None:
        if config.seed == 2:
            os.kill(self.process.pid or 0, signal.SIGSTOP)
        give(self, config)

    monkeypatch.setattr(Worker, "give", hanging)
    axes = {"method": ["bias"], "dataset": [str(images)], "shots": [2], "checkpoint": ["random"]}
    configs = expand(axes={**axes, "seed": [2, 3]}, options={"steps": 1})
    outcomes = sweep(configs, tmp_path, jobs=1, on_done=lambda *_: None, time_limit=20)
    assert [outcome.error is None for outcome in outcomes] == [False, True]
    assert "longer than its limit of 20 s" in str(outcomes[0].error)
    assert read_result(result_path(tmp_path, configs[0])).run_info.status == "failed"
