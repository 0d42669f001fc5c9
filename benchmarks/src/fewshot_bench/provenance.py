"""Where numbers come from: which code, on which machine, with which versions, and what is odd."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fewshot_bench.results import MetaInfo, RunResult

__all__ = ["Origin", "cautions", "origins"]


@dataclass(frozen=True)
class Origin:
    """Runs that were made with the same code on the same machine."""

    meta: MetaInfo
    runs: int
    first: str
    """When the earliest of them started."""
    last: str

    @property
    def revision(self) -> str:
        """The git revision, and whether there were uncommitted changes."""
        if self.meta.git_revision is None:
            return "unknown revision"
        return self.meta.git_revision[:12] + (
            " with uncommitted changes" * bool(self.meta.git_dirty)
        )


def origins(results: Sequence[RunResult]) -> tuple[Origin, ...]:
    """Group runs by what they were measured with.

    Args:
        results: The runs.

    Returns:
        One origin per combination of code, machine and versions, the most frequent first.
    """
    groups: dict[str, list[RunResult]] = {}
    for result in results:
        groups.setdefault(repr(result.meta_info), []).append(result)
    made = []
    for runs in groups.values():
        times = sorted(run.run_info.created_at for run in runs)
        made.append(Origin(runs[0].meta_info, len(runs), times[0], times[-1]))
    return tuple(sorted(made, key=lambda origin: (-origin.runs, origin.first)))


def cautions(results: Sequence[RunResult]) -> tuple[str, ...]:
    """Say what a reader should know before comparing the numbers.

    Args:
        results: The runs.

    Returns:
        Sentences; none when there is nothing to say.
    """
    metas = [result.meta_info for result in results]
    said = []
    revisions = {meta.git_revision for meta in metas}
    if len(revisions) > 1:
        said.append(f"The runs come from {len(revisions)} revisions of the code.")
    dirty = sum(bool(meta.git_dirty) for meta in metas)
    if dirty:
        said.append(f"{dirty} of {len(metas)} runs were made with uncommitted changes in the code.")
    devices = Counter((meta.device, meta.threads) for meta in metas)
    if len(devices) > 1:
        said.append(
            f"The runs come from {len(devices)} devices or thread counts: "
            "step times do not compare across them."
        )
    single = {result.run_info.config.seed for result in results}
    if len(single) == 1:
        said.append("There is one seed only: no interval can be given.")
    return tuple(said)
