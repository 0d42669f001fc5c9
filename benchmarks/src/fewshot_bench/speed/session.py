"""A measurement on its way: what is there already, what is missing, what could not be done."""

import dataclasses
import hashlib
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fewshot_bench.environment import describe
from fewshot_bench.schema import plain
from fewshot_bench.speed.machine import is_set
from fewshot_bench.speed.options import Options, Part
from fewshot_bench.speed.record import SpeedResult
from fewshot_bench.speed.release import released_file
from fewshot_bench.speed.snell_models import has_kernels
from fewshot_bench.speed.snell_release import snell_file
from fewshot_bench.speed.variants import Choice, choices

__all__ = ["Session", "continues", "open_session"]


@dataclasses.dataclass
class Session:
    """What a measurement has to know on its way.

    Args:
        options: What is asked for.
        chosen: The variants.
        say: Called after every piece of work with what it was.
        save: Called with the unfinished result whenever it has grown.
        result: What is measured so far.
    """

    options: Options
    chosen: list[Choice]
    say: Callable[[str], None]
    save: Callable[[SpeedResult], None]
    result: SpeedResult
    _began: float = dataclasses.field(default_factory=time.perf_counter)

    def add(self, part: Part, rows: Sequence[Any]) -> None:
        """Take rows in, and save what there is.

        Args:
            part: Where they belong.
            rows: They.
        """
        if rows:
            getattr(self.result, part).extend(rows)
            self.save(self._so_far(finished=False))

    def has(self, part: Part, **facts: object) -> bool:
        """Tell whether a row is there already.

        Args:
            part: Where it belongs.
            facts: Its fields.

        Returns:
            Whether any row has these fields.
        """
        rows = getattr(self.result, part)
        return any(all(getattr(row, k) == v for k, v in facts.items()) for row in rows)

    def attempt(self, name: str, call: Callable[..., Any], *arguments: Any) -> Any:
        """Do a part; one that fails is named in the record and leaves the others alone.

        Args:
            name: Of the part.
            call: What to do.
            arguments: With what.

        Returns:
            What it gave; `None` where it failed.
        """
        try:
            return call(*arguments)
        except Exception as error:
            expected = isinstance(error, (NotImplementedError, ValueError))
            reason = " ".join(str(error).split())[:300]
            self.result.left_out[name] = reason if expected else f"{type(error).__name__}: {reason}"
            return None

    def finish(self) -> SpeedResult:
        """Close the measurement.

        Returns:
            The whole result.
        """
        return self._so_far(finished=True)

    def _so_far(self, finished: bool) -> SpeedResult:
        """Give the result with the time that it took."""
        taken = self.result.total_time_s + time.perf_counter() - self._began
        return dataclasses.replace(self.result, total_time_s=taken, finished=finished)


def open_session(
    options: Options,
    say: Callable[[str], None],
    save: Callable[[SpeedResult], None],
    done: SpeedResult | None = None,
) -> Session:
    """Begin a measurement, or go on with one.

    Args:
        options: What is asked for.
        say: Called after every piece of work.
        save: Called with the unfinished result whenever it has grown.
        done: An unfinished result of the same measurement, see `continues`.

    Returns:
        The session.

    Raises:
        ValueError: There is no such variant.
    """
    clones = {"so": options.release, "snell": options.snell_release}
    chosen = choices(options.variants, options.densities, clones)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    meta = describe(options.device, 1)
    fresh = SpeedResult(now, 0.0, _recorded(options), is_set(), meta)
    return Session(options, chosen, say, save, fresh if done is None else _again(done))


def continues(done: SpeedResult, options: Options) -> bool:
    """Tell whether a result file is the beginning of a measurement.

    Args:
        done: What the file holds.
        options: What is asked for.

    Returns:
        Whether it is unfinished and has the same options, code, packages and device.
    """
    asked = plain(_recorded(options)), describe(options.device, 1), is_set()
    there = done.options, done.meta_info, done.allocator_set
    return not done.finished and asked == there


def _again(done: SpeedResult) -> SpeedResult:
    """Take what is there; what was left out is tried again."""
    return dataclasses.replace(done, left_out={})


def _recorded(options: Options) -> dict[str, Any]:
    """Write the options down, without places of this machine."""
    places = ("out", "table", "page", "figure", "render", "predicted")
    no_places = {"release": None, "snell_release": None, "out": Path(), "predicted": ()}
    table = plain(dataclasses.replace(options, **no_places))
    for name in places:
        del table[name]
    for name, find in (("release", released_file), ("snell_release", snell_file)):
        clone = getattr(options, name)
        if clone is not None:
            digest = hashlib.sha256(find(clone).read_bytes()).hexdigest()
            table[name] = f"{clone.name}, sha256 {digest}"
    table["snell_kernels"] = has_kernels()
    return table
