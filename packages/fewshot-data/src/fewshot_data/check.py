"""Is a dataset on disk what it should be? Found, counted, decoded, compared with what is known."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fewshot_data.images import ImageFiles
from fewshot_data.raw import RawDataset
from fewshot_data.registry import DatasetSpec
from fewshot_data.sources import open_source

__all__ = ["Report", "check_dataset"]

CACHES = ("preprocessed.pkl", "split_fewshot/*.pkl")
"""CoOp's caches below a dataset's folder: stale as soon as the data moves, and never read."""


@dataclass
class Report:
    """What `check_dataset` found.

    Args:
        name: The dataset.
        error: Why it could not be opened; empty if it could.
        origin: Where samples and splits come from.
        published: Whether the splits are the published ones.
        classes: Classes found, and classes published (``None`` where unknown).
        counts: For each split the samples found, and the published number or sentence.
        complaints: What differs from the published data.
        notes: What else was noticed while opening.
        unreadable: Images that cannot be decoded, each with the reason.
        decoded: How many images were decoded.
        caches: Stale files that another program left in the folder.
    """

    name: str
    error: str = ""
    origin: str = ""
    published: bool = True
    classes: tuple[int, int | None] = (0, None)
    counts: dict[str, tuple[int, int | str | None]] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    decoded: int = 0
    caches: list[str] = field(default_factory=list)

    def ok(self, *, strict: bool = False) -> bool:
        """Whether the data can be used; with ``strict``, whether it is the published data."""
        usable = not self.error and not self.unreadable
        return usable and not (strict and (self.complaints or not self.published))


def check_dataset(
    spec: DatasetSpec,
    root: str | Path | None = None,
    *,
    seed: int = 1,
    decode: int = 0,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Open a dataset, count it, decode images, and say everything that is not as published.

    Args:
        spec: The dataset.
        root: The folder of all datasets or this dataset's own; embedded data needs none.
        seed: Of a split that the data does not have.
        decode: How many images to decode, spread over the whole set; -1 decodes all.
        on_image: Called after each decoded image with how many are done and how many there are.

    Returns:
        The report; what is wrong with the data is in it and not raised.

    Examples:
        >>> import tempfile
        >>> from fewshot_data import load_spec
        >>> check_dataset(load_spec("dtd"), tempfile.mkdtemp()).ok()
        False
    """
    report = Report(spec.name)
    spec = spec if root is None else spec.at(root)
    with _warnings(report.notes):
        try:
            raw = open_source(spec, seed=seed)
        except (ValueError, OSError) as error:
            report.error = str(error)
            return report
    report.origin, report.published = raw.origin, raw.published
    report.classes = (len(raw.class_names), spec.classes)
    parts = {"train": raw.train_indices, "val": raw.val_indices, "test": raw.test_indices}
    report.counts = {name: (len(part), spec.splits.get(name)) for name, part in parts.items()
                     if part or name in spec.splits}  # fmt: skip
    report.complaints += [*raw.complaints, *_class_complaints(spec, raw)]
    report.notes = [note for note in report.notes if note not in report.complaints]
    report.caches = _caches(spec)
    if decode and isinstance(raw.samples, ImageFiles):
        _decode(raw.samples, decode, report, on_image)
    return report


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


def _caches(spec: DatasetSpec) -> list[str]:
    """Caches of other programs in the dataset's folder."""
    if spec.root is None:
        return []
    places = [spec.root, *(spec.root / name for name in spec.folders)]
    found = {path for place in places for pattern in CACHES for path in place.glob(pattern)}
    return sorted(str(path) for path in found)


def _decode(
    files: ImageFiles, count: int, report: Report, on_image: Callable[[int, int], None]
) -> None:
    """Decode images and note those that cannot be."""
    chosen = _spread(len(files), count)
    for done, index in enumerate(chosen, 1):
        try:
            files[index]
        except ValueError as error:
            report.unreadable.append(str(error))
        report.decoded = done
        on_image(done, len(chosen))


def _spread(total: int, count: int) -> Sequence[int]:
    """Positions at equal distances."""
    if count < 0 or count >= total:
        return range(total)
    return [position * total // count for position in range(count)]


@contextmanager
def _warnings(into: list[str]) -> Iterator[None]:
    """Collect what the package warns of, instead of having it printed."""

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            into.append(record.getMessage())

    log, handler = logging.getLogger("fewshot_data"), Collect(logging.WARNING)
    passes, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = passes
