"""Gather the result files of a folder; what cannot be read is named, never guessed at."""

from dataclasses import dataclass
from pathlib import Path

from fewshot_bench.results import RunResult, read_result

__all__ = ["Collection", "Unreadable", "collect"]


@dataclass(frozen=True)
class Unreadable:
    """A file that was left out, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Collection:
    """What a folder of results holds."""

    results: tuple[RunResult, ...]
    unreadable: tuple[Unreadable, ...]

    @property
    def failed(self) -> tuple[RunResult, ...]:
        """The runs that did not come to their end."""
        return tuple(run for run in self.results if run.run_info.status == "failed")


def collect(folder: str | Path) -> Collection:
    """Read every result file under a folder.

    Args:
        folder: A folder that `fewshot run` or `fewshot sweep` wrote to, or any folder of result
            files.

    Returns:
        The results sorted by name, each run once (its newest file), and the files left out.

    Raises:
        FileNotFoundError: There is no such folder, or no result file in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no folder {str(folder)!r}: `fewshot sweep --out {folder}` makes one with results"
        )
    paths = sorted(folder.rglob("runs/*.json")) or sorted(folder.glob("*.json"))
    if not paths:
        raise FileNotFoundError(
            f"no result file in {str(folder)!r}: they are looked for in {folder / 'runs'}, where "
            "`fewshot run` and `fewshot sweep` write them"
        )
    return _read(paths)


def _read(paths: list[Path]) -> Collection:
    """Read files, keeping the newest of those that record the same run."""
    newest: dict[str, tuple[Path, RunResult]] = {}
    unreadable = []
    for path in paths:
        try:
            result = read_result(path)
        except (ValueError, OSError) as error:
            unreadable.append(Unreadable(path, _reason(path, error)))
            continue
        name = result.run_info.name
        kept = newest.setdefault(name, (path, result))
        if kept[0] == path:
            continue
        older, newer = sorted([kept, (path, result)], key=lambda pair: pair[1].run_info.created_at)
        newest[name] = newer
        unreadable.append(Unreadable(older[0], f"an older record of the run in {newer[0]}"))
    ordered = sorted(newest.items())
    return Collection(tuple(result for _, (_, result) in ordered), tuple(unreadable))


def _reason(path: Path, error: Exception) -> str:
    """Shorten an error that begins with the path: the path is shown beside it anyway."""
    return str(error).removeprefix(str(path)).lstrip(": ").removeprefix("is ")
