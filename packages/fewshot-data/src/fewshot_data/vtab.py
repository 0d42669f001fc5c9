"""VTAB-1k as NOAH, SSF, SPT and SNELL hand it round: four lists and four image folders a task."""

from pathlib import Path

from fewshot_data.fixed import size_complaints, whole_train
from fewshot_data.images import ImageFiles
from fewshot_data.layout import find_folder
from fewshot_data.listed import read_list, require_files
from fewshot_data.raw import RawDataset
from fewshot_data.registry import DatasetSpec, list_datasets
from fewshot_data.schema import read_options

__all__ = ["open_source"]

OPTIONS = {"stage": "final"}
STAGES = {"final": ("train800val200", "test"), "search": ("train800", "val200")}
"""By stage, the list to learn from and the list to measure on."""
SIZES = {"train800": 800, "val200": 200, "train800val200": 1000}


def open_source(spec: DatasetSpec, *, seed: int) -> RawDataset:
    """Open one task: the final run, or the split that hyper-parameters are searched on.

    The final run learns from the 1000 images of ``train800val200`` and is measured on ``test``;
    the search learns from ``train800`` and is measured on ``val200``, so that no choice sees a
    test image. The number of classes is the registry's, because the 800 images of several tasks
    lack classes. All four lists are read and counted either way: archives of VTAB-1k are often
    incomplete.

    Args:
        spec: Its option ``stage`` is ``"final"`` or ``"search"``.
        seed: Unused: every list is fixed.

    Returns:
        The images that the stage needs, in the order of the lists; classes carry their numbers,
        for the release has no names.

    Raises:
        FileNotFoundError: If the task, a list or listed images are missing.
        ValueError: If a line is broken or a label is beyond the number of classes.

    Examples:
        >>> import tempfile
        >>> from fewshot_data import load_spec
        >>> open_source(load_spec("vtab-dtd").at(tempfile.mkdtemp()), seed=0)
        ... # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        FileNotFoundError: no folder

    Reference:
        Zhai et al. (2020), A Large-scale Study of Representation Learning with the Visual Task
        Adaptation Benchmark; the packaging is that of ``dongzelian/SSF`` and its successors.
    """
    stage = read_options(spec.options, OPTIONS, owner="source 'vtab'")["stage"]
    if stage not in STAGES:
        raise ValueError(f"option 'stage' is '{stage}': give 'final' or 'search'")
    folder = _find_task(spec)
    lists = {name: _read(spec, folder, name) for name in (*SIZES, "test")}
    train, test = (lists[name] for name in STAGES[stage])
    names = [name for name, _ in train + test]
    paths = [folder / name for name in names]
    require_files(paths, owner=f"dataset '{spec.name}'", fix=INCOMPLETE)
    positions = list(range(len(train)))
    return RawDataset(
        ImageFiles(paths),
        [label for _, label in train + test],
        tuple(f"class {label}" for label in range(spec.classes or 0)),
        positions,
        list(range(len(train), len(names))),
        names=names,
        origin=f"VTAB-1k in '{folder}', {' -> '.join(STAGES[stage])} (images re-encoded as JPEG)",
        published=True,
        official=whole_train(positions, spec.name),
        complaints=_complaints(spec, lists),
    )


INCOMPLETE = (
    "the archive of VTAB-1k was unpacked in part: it has several pieces, and every piece is needed"
)


def _find_task(spec: DatasetSpec) -> Path:
    """The task's folder; where it is absent but other tasks are there, say which ones."""
    try:
        return find_folder(spec, marks=("train800val200.txt", "train800.txt"))
    except FileNotFoundError as error:
        tasks = [other for other in list_datasets() if other.source == "vtab"]
        found = [other.name for other in tasks if _has_task(spec, other)]
        if not found:
            raise
        lacking = [other.name for other in tasks if other.name not in found]
        raise FileNotFoundError(
            f"{error}. Of VTAB-1k's {len(tasks)} tasks {len(found)} are there "
            f"and {len(lacking)} are missing: {', '.join(lacking)}; some copies hold only a part"
        ) from error


def _has_task(spec: DatasetSpec, other: DatasetSpec) -> bool:
    """Whether another task lies where this one was looked for."""
    places = [spec.root / folder for folder in other.folders] if spec.root else []
    return any((place / "train800val200.txt").is_file() for place in places)


def _read(spec: DatasetSpec, folder: Path, name: str) -> list[tuple[str, int]]:
    """One list, every label within the number of classes that the registry states."""
    path = folder / f"{name}.txt"
    if not path.is_file():
        found = ", ".join(sorted(entry.name for entry in folder.glob("*.txt"))) or "no list at all"
        raise FileNotFoundError(f"no list '{path}': the task holds {found}; {INCOMPLETE}")
    entries = read_list(path)
    for number, (image, label) in enumerate(entries, start=1):
        if label >= (spec.classes or 0):
            raise ValueError(
                f"'{path}', entry {number}: label {label} of '{image}', but '{spec.name}' has "
                f"only {spec.classes} classes, numbered from 0: the list is another task's"
            )
    return entries


def _complaints(spec: DatasetSpec, lists: dict[str, list[tuple[str, int]]]) -> tuple[str, ...]:
    """Counts that are not 800, 200, 1000 and the size of the test set."""
    counts = {name: len(entries) for name, entries in lists.items()}
    wrong = [
        f"dataset '{spec.name}': {name}.txt has {counts[name]} lines instead of {size}"
        for name, size in SIZES.items()
        if counts[name] != size
    ]
    return (*wrong, *size_complaints(spec, {"test": counts["test"]}))
