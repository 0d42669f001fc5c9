"""Is a dataset on disk what it should be? Found, counted, decoded, compared with what is known."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fewshot_data.images import ImageFiles
from fewshot_data.raw import RawDataset
from fewshot_data.registry import DatasetSpec
from fewshot_data.sources import read_source

__all__ = ["Report", "check_dataset", "folder_of"]

CACHES = ("preprocessed.pkl", "split_fewshot/*.pkl")
"""CoOp's caches below a dataset's folder: stale as soon as the data moves, and never read."""


@dataclass(frozen=True)
class Report:
    """What `check_dataset` found.

    Args:
        name: The dataset.
        error: Why it could not be opened; empty if it could.
        folder: Its folder, and how that was come by; empty for data without one.
        origin: Where samples and splits come from.
        published: Whether the splits are the published ones.
        classes: Classes found, and classes published (``None`` where unknown).
        counts: For each split the samples found, and the published number or sentence.
        complaints: What differs from the published data.
        notes: What else was noticed while opening.
        unreadable: Images that cannot be decoded, each with the reason.
        decoded: How many images were decoded.
        caches: Stale files that another program left in the folder.
        strict: Whether only the published data will do.
    """

    name: str
    error: str = ""
    folder: str = ""
    origin: str = ""
    published: bool = True
    classes: tuple[int, int | None] = (0, None)
    counts: dict[str, tuple[int, int | str | None]] = field(default_factory=dict)
    complaints: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    decoded: int = 0
    caches: tuple[str, ...] = ()
    strict: bool = False

    @property
    def ok(self) -> bool:
        """Whether the data can be used; where strictness was asked for, whether it is published."""
        usable = not self.error and not self.unreadable
        return usable and not (self.strict and (self.complaints or not self.published))

    def to_dict(self) -> dict[str, Any]:
        """The report as a plain table.

        Returns:
            What JSON can hold, with ``ok``.

        Examples:
            >>> Report("dtd", error="no folder").to_dict()["ok"]
            False
        """
        return {**asdict(self), "ok": self.ok}


def check_dataset(
    spec: DatasetSpec,
    root: str | Path | None = None,
    *,
    seed: int = 1,
    decode: int = 0,
    strict: bool = False,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Open a dataset, count it, decode images, and say everything that is not as published.

    Args:
        spec: The dataset.
        root: The folder of all datasets or this dataset's own; embedded data needs none.
        seed: Of a split that the data does not have.
        decode: How many images to decode, spread over the whole set; -1 decodes all.
        strict: Whether anything but the published data is not ok.
        on_image: Called after each decoded image with how many are done and how many there are.

    Returns:
        The report; what is wrong with the data is in it and not raised.

    Examples:
        >>> import tempfile
        >>> from fewshot_data import load_spec
        >>> check_dataset(load_spec("dtd"), tempfile.mkdtemp()).ok
        False
    """
    spec = spec if root is None else spec.at(root)
    with _listening(_Heard()) as heard:
        try:
            raw = read_source(spec, seed=seed)
        except (ValueError, OSError) as error:
            return replace(heard.report(spec.name), error=str(error), strict=strict)
    report = heard.report(spec.name)
    parts = {"train": raw.train_indices, "val": raw.val_indices, "test": raw.test_indices}
    complaints = tuple(dict.fromkeys([*raw.complaints, *_class_complaints(spec, raw)]))
    unreadable, decoded = _decode(raw.samples, decode, on_image)
    return replace(
        report,
        origin=raw.origin,
        published=raw.published,
        classes=(len(raw.class_names), spec.classes),
        counts={name: (len(part), spec.splits.get(name)) for name, part in parts.items()
                if part or name in spec.splits},
        complaints=complaints,
        unreadable=unreadable,
        decoded=decoded,
        strict=strict,
    )  # fmt: skip


def folder_of(spec: DatasetSpec, root: str | Path) -> Path | None:
    """Find a dataset's folder by its files, and read none of them.

    Args:
        spec: The dataset.
        root: The folder of all datasets.

    Returns:
        The folder; ``None`` if there is none, or two.

    Examples:
        >>> import tempfile
        >>> from fewshot_data import load_spec
        >>> folder_of(load_spec("dtd"), tempfile.mkdtemp()) is None
        True
    """
    with _listening(_Stop()):
        try:
            read_source(spec.at(root), seed=0)
        except _Found as found:
            return found.folder
        except (ValueError, OSError):
            return None
    return None


def _class_complaints(spec: DatasetSpec, raw: RawDataset) -> Iterator[str]:
    """What is wrong with the classes: their number, or the order of their names."""
    if spec.classes not in (None, len(raw.class_names)):
        yield f"dataset '{spec.name}': {len(raw.class_names)} classes instead of {spec.classes}"
    pairs = zip(raw.class_names, spec.class_names, strict=False)
    wrong = next(
        (n for n, (found, known) in enumerate(pairs) if _plain(found) != _plain(known)), None
    )
    if wrong is not None:
        yield (
            f"dataset '{spec.name}': label {wrong} is '{raw.class_names[wrong]}', but "
            f"'{spec.class_names[wrong]}' where numbers were published: the order differs"
        )
    sampled = {raw.labels[i] for i in raw.train_indices}
    empty = [name for label, name in enumerate(raw.class_names) if label not in sampled]
    if sampled and empty:
        yield f"dataset '{spec.name}': no training sample of {len(empty)} classes ({empty[0]}, ...)"


def _plain(name: str) -> str:
    """A class name without case and separators."""
    return name.lower().replace("_", " ").replace("-", " ")


def _decode(
    samples: Sequence[Any], count: int, on_image: Callable[[int, int], None]
) -> tuple[tuple[str, ...], int]:
    """Decode images; those that cannot be, and how many were tried."""
    if not isinstance(samples, ImageFiles):
        return (), 0
    unreadable, chosen = [], _spread(len(samples), count)
    for done, index in enumerate(chosen, 1):
        try:
            samples[index]
        except ValueError as error:
            unreadable.append(str(error))
        on_image(done, len(chosen))
    return tuple(unreadable), len(chosen)


def _spread(total: int, count: int) -> Sequence[int]:
    """Positions at equal distances."""
    if count < 0 or count >= total:
        return range(total)
    return [position * total // count for position in range(count)]


class _Found(Exception):
    """The folder is known: the rest of opening need not happen."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.folder = folder


class _Heard(logging.Handler):
    """What the package logs while it opens data."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.folder: Path | None = None
        self.place = ""
        self.notes: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a warning, and where the folder is."""
        folder = getattr(record, "folder", None)
        if folder is not None and self.folder is None:
            self.folder, self.place = folder, record.getMessage()
        elif record.levelno >= logging.WARNING:
            self.notes.append(record.getMessage())

    def report(self, name: str) -> Report:
        """A report of what was heard."""
        folder = self.folder
        caches = [path for pattern in CACHES for path in folder.glob(pattern)] if folder else []
        stale = tuple(sorted(str(path) for path in caches))
        return Report(name, folder=self.place, notes=tuple(self.notes), caches=stale)


class _Stop(_Heard):
    """Ends the opening of data where its folder is found."""

    def emit(self, record: logging.LogRecord) -> None:
        """Raise what `folder_of` waits for."""
        super().emit(record)
        if self.folder is not None:
            raise _Found(self.folder)


@contextmanager
def _listening(heard: _Heard) -> Iterator[_Heard]:
    """Collect what the package logs, instead of having it printed."""
    log = logging.getLogger("fewshot_data")
    before = log.propagate, log.level
    log.propagate = False
    log.setLevel(logging.INFO)
    log.addHandler(heard)
    try:
        yield heard
    finally:
        log.removeHandler(heard)
        log.propagate = before[0]
        log.setLevel(before[1])
